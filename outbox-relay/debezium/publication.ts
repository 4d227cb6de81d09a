import { RelayError } from '../errors.ts'
import { type Queryable, queryText } from '../text-query.ts'

// A slot's position tells how far the log was read, not what was sent of it: rows that the publication
// lacks are passed over in silence. Whether it has a row is decided by the catalogue as it was when the
// row was written. So it must have all of outbox.events before there is a slot, and must still be the
// same rows of the catalogue whenever a checkpoint is believed: whoever changes it writes those rows
// anew, and so does whoever changes it back.

/** Which publication it is, and which version of it. */
export type Publication = string

/** Throws `publication_unfit` when the publication does not send every row as the root table's. */
export async function readPublication(db: Queryable): Promise<Publication> {
  const [row] = await queryText(db, {
    name: 'relay-publication',
    text: `select publication.oid, publication.xmin, member.oid, member.xmin
             from pg_publication as publication
             join pg_publication_rel as member on prpubid = publication.oid
            where pubname = 'sluice_outbox' and pubinsert and pubviaroot
              and prrelid = 'outbox.events'::regclass and prqual is null and prattrs is null`,
    values: [],
    timeoutMs: 5_000,
  })
  if (row !== undefined) return row.join(' ')
  throw new RelayError(
    'publication_unfit',
    'publication sluice_outbox must have all of outbox.events: no filter, no list of columns, ' +
      "publish = 'insert', publish_via_partition_root = true",
  )
}

/** Throws `publication_unfit` when it is not what it was: the connector may have passed rows over. */
export async function requireSamePublication(db: Queryable, before: Publication): Promise<void> {
  if ((await readPublication(db)) === before) return
  throw new RelayError('publication_unfit', 'publication sluice_outbox has been changed')
}
