/**
 * Serves one module with several processes: `handoff serve` as a function.
 *
 * A process listens and starts workers. Each worker loads the module and answers requests. A worker that ends is
 * replaced, and {@linkcode AppServer.restart} replaces all workers without refusing a request.
 *
 * @example The module
 * ```ts ignore
 * // app.ts
 * export default {
 *   fetch(request: Request): Response {
 *     return new Response(`Process ${Deno.pid} answers ${request.url}\n`);
 *   },
 * };
 * ```
 *
 * @example The server
 * ```ts ignore
 * import { serve } from "@winsock/handoff/serve";
 *
 * await using server = await serve({ main: "app.ts", port: 8000 });
 * await server.finished;
 * ```
 *
 * @module
 */
export { AppServer, serve, type ServeOptions } from "./serve.ts";
export type { ServedModule } from "./worker.ts";
