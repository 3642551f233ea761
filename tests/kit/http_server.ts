/** HTTP servers of this process for tests. */
import { listen } from "@winsock/handoff";
import { type HttpHandler, serveHttp, type ServeHttpOptions } from "@winsock/handoff/http";
import { within } from "./process.ts";

const ENGINES = ["node:http", "Deno.serve"] as const;
type Engine = typeof ENGINES[number];

/** Runs a test once for each engine of {@linkcode serveHttp}. */
export function eachEngine(name: string, test: (engine: Engine) => Promise<void>): void {
  for (const engine of ENGINES) Deno.test(`${engine}: ${name}`, () => test(engine));
}

/** A server on a port of its own. */
export function start(handler: HttpHandler, options?: ServeHttpOptions) {
  const listener = listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  const server = serveHttp(listener, handler, { shutdownTimeout: 100, ...options });
  return {
    port,
    server,
    url: `http://127.0.0.1:${port}`,
    [Symbol.asyncDispose]: () => within(20_000, server.shutdown()),
  };
}
