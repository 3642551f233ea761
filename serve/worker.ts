/**
 * The worker of {@linkcode serve}: serves one module's `fetch` on the connections that this process receives.
 *
 * @module
 */
import { receive } from "../handoff/receive.ts";
import type { HttpInfo } from "../http/options.ts";
import { serveHttp } from "../http/serve_http.ts";

/** What a module exports as default to be served, as for `deno serve`. */
export interface ServedModule {
  /**
   * Answers one request.
   *
   * @param request The request.
   * @param info The connection it came on.
   * @returns The response.
   */
  fetch(request: Request, info: HttpInfo): Response | Promise<Response>;
  /** Called in each worker before its first request, with the address that the server listens at. */
  onListen?(addr: Deno.NetAddr): void;
  /** Answers a request whose `fetch` has thrown. By default the error is printed, and the client gets a 500. */
  onError?(error: unknown): Response | Promise<Response>;
}

/** What a worker is started with. */
export interface WorkerSettings {
  /** Where the server listens, for `onListen`. */
  readonly addr: Deno.NetAddr;
  /** How long responses may take once the worker is to end, in milliseconds. */
  readonly shutdownTimeout: number;
}

/**
 * Serves a module until the source ends.
 *
 * @param name The module's URL, for the error.
 * @param module What it exports.
 * @param settings How.
 * @throws {TypeError} If its default export has no `fetch` function.
 */
export async function serveModule(name: string, module: unknown, settings: WorkerSettings): Promise<void> {
  const app = (module as { default?: Partial<ServedModule> }).default;
  if (typeof app?.fetch !== "function") {
    throw new TypeError(`Cannot serve ${name}: its default export has no "fetch" function`);
  }
  const { fetch, onError } = app as ServedModule;
  app.onListen?.(settings.addr);
  const handler = (request: Request, info: HttpInfo) => fetch.call(app, request, info);
  const options = {
    shutdownTimeout: settings.shutdownTimeout,
    ...onError === undefined ? {} : { onError: (error: unknown) => onError.call(app, error) },
  };
  await serveHttp(receive(), handler, options).finished;
}
