# One image for every process of Sluice; who runs it names the process:
#   node command-api/main.ts, node outbox-relay/main.ts, node query-api/main.ts: the services
#   node migrations/main.ts, node service/access-key.ts: run once
# Nothing is built: Node runs the TypeScript as it stands in the repository, workspaces included,
# so the image keeps the repository's shape and node_modules holds links to the workspaces.

# Another base where this one is not to be had: a mirror's, or one that knows your proxy's
# certificate authority.
ARG NODE_IMAGE=node:24-bookworm-slim

FROM ${NODE_IMAGE} AS dependencies
WORKDIR /sluice
# Manifests first and alone: until one of them changes, the installation comes from the cache.
COPY package.json package-lock.json .npmrc ./
COPY service/package.json service/
COPY kafka/package.json kafka/
COPY connect/package.json connect/
COPY migrations/package.json migrations/
COPY command-api/package.json command-api/
COPY outbox-relay/package.json outbox-relay/
COPY query-api/package.json query-api/
# Only what these workspaces need: no test tools, and none of the servers of local-stack.
RUN npm ci --omit=dev --no-update-notifier \
  -w service -w kafka -w connect -w migrations -w command-api -w outbox-relay -w query-api

FROM ${NODE_IMAGE}
ENV NODE_ENV=production
WORKDIR /sluice
# A volume that is mounted here for the first time takes over this owner.
RUN mkdir /var/lib/sluice && chown node:node /var/lib/sluice
COPY --from=dependencies /sluice ./
# .dockerignore lets nothing through but what belongs here.
COPY . .
USER node
# As process 1, Node gets this signal itself, and each process drains on it.
STOPSIGNAL SIGTERM
