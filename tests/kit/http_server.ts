/** HTTP servers of this process for tests. */
import { listen } from "@winsock/handoff";
import { type HttpHandler, serveHttp, type ServeHttpOptions } from "@winsock/handoff/http";
import { canAdoptResource } from "../../sockets/conn_io.ts";
import { within } from "./process.ts";

const ENGINES = ["node:http", "Deno.serve"] as const;
type Engine = typeof ENGINES[number];

/** That of the test that runs. */
let current: Engine | undefined;

/** Runs a test once for each engine of {@linkcode serveHttp} that this Deno has. */
export function eachEngine(name: string, test: (engine: Engine) => Promise<void>): void {
  for (const engine of ENGINES) {
    Deno.test({
      name: `${engine}: ${name}`,
      ignore: engine === "Deno.serve" && !canAdoptResource(),
      async fn() {
        current = engine;
        try {
          await test(engine);
        } finally {
          current = undefined;
        }
      },
    });
  }
}

/** A server on a port of its own: by the engine of the test, or by `node:http` if nothing else is said. */
export function start(handler: HttpHandler, options?: ServeHttpOptions) {
  const listener = listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  const server = serveHttp(listener, handler, { engine: current ?? "node:http", shutdownTimeout: 100, ...options });
  return {
    port,
    server,
    url: `http://127.0.0.1:${port}`,
    [Symbol.asyncDispose]: () => within(20_000, server.shutdown()),
  };
}
