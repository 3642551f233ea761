/**
 * One module, all processors: what `handoff serve` does, as a function.
 *
 * A process listens and starts workers; each of them loads the module and answers requests. A worker that ends is replaced,
 * and {@linkcode AppServer.restart} replaces all of them without refusing a request.
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
