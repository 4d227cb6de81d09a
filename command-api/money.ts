import { z } from 'zod'

/** The largest balance either way, in minor units: what 18 digits hold. */
export const balanceLimitMinor = 999_999_999_999_999_999n

/** A positive amount of minor units as JSON carries it: a string of 1 to 18 digits. */
export const amount = z
  .string({ error: 'must be a string of digits, in minor units' })
  .regex(/^[1-9]\d{0,17}$/, 'must be 1 to 18 digits, in minor units, without sign or leading zero')

/** As `amount`, and zero is allowed. */
export const amountOrZero = z
  .string({ error: 'must be a string of digits, in minor units' })
  .regex(/^(0|[1-9]\d{0,17})$/, 'must be 1 to 18 digits, in minor units, without leading zero')

/** A balance: as `amountOrZero`, and may be below zero. */
export const balance = z.string().regex(/^(0|-?[1-9]\d{0,18})$/, 'must be digits, in minor units')

/** ISO 4217 by the number of digits after the point: the exponent that turns minor units to major. */
const codesByExponent: Readonly<Record<number, string>> = {
  0: 'BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF',
  2:
    'AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD ' +
    'CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS ' +
    'GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD ' +
    'LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB ' +
    'PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP ' +
    'SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG',
  3: 'BHD IQD JOD KWD LYD OMR TND',
  4: 'CLF UYW',
}

const exponents = new Map(
  Object.entries(codesByExponent).flatMap(([exponent, codes]) =>
    codes.split(' ').map((code) => [code, Number(exponent)] as const),
  ),
)

/** Digits after the point, or undefined for a code that ISO 4217 does not list. */
export function exponentOf(currency: string): number | undefined {
  return exponents.get(currency)
}

export const currencyCode = z
  .string()
  .regex(/^[A-Z]{3}$/, 'must be three capital letters, as in ISO 4217')
