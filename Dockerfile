# No `syntax` line: the build downloads only the base image, npm packages and tini.
# By the digest of its index, which has the image of each platform. To build on another one: --build-arg NODE_IMAGE=…
ARG NODE_IMAGE=node:24.18.0-bookworm-slim@sha256:6f7b03f7c2c8e2e784dcf9295400527b9b1270fd37b7e9a7285cf83b6951452d

# 1. Build with all dependencies.
FROM ${NODE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY scripts scripts
COPY proto proto
COPY wire wire
COPY worker worker
COPY pool pool
COPY server server
COPY client client
COPY cli cli
COPY examples examples
RUN npm run build

# 2. The production dependencies.
FROM ${NODE_IMAGE} AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund

# 3. The image. Mount or COPY your module of functions to /functions and name it in the command.
FROM ${NODE_IMAGE}
# tini, as process 1, passes signals on and reaps the orphans that functions leave behind. Nothing installs packages later.
RUN apt-get update && apt-get install -y --no-install-recommends tini && rm -rf /var/lib/apt/lists/* \
  /usr/local/lib/node_modules /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack /usr/local/bin/yarn* /opt/yarn*
ENV NODE_ENV=production FARPOOL_LISTEN=0.0.0.0:50051
WORKDIR /app
COPY --from=dependencies /app/node_modules node_modules
COPY package.json LICENSE ./
COPY --from=build /app/dist dist
COPY proto/farpool proto/farpool
COPY proto/google proto/google
COPY proto/gen/*.binpb proto/gen/
# The user node, by number: Kubernetes does not take a name for runAsNonRoot.
USER 1000:1000
WORKDIR /functions
EXPOSE 50051
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
  CMD ["node", "/app/dist/cli/main.js", "health", "--own"]
ENTRYPOINT ["tini", "--", "node", "/app/dist/cli/main.js"]
CMD ["serve", "/app/dist/examples/math.js"]
