/**
 * The worker of {@linkcode serve}: calls the `fetch` function of a module for requests on the connections that this
 * process receives.
 *
 * @module
 */
import { receive } from "../handoff/receive.ts";
import type { HttpInfo } from "../http/options.ts";
import { serveHttp } from "../http/serve_http.ts";

/** The default export of a served module, as for `deno serve`. */
export interface ServedModule {
  /**
   * Answers one request.
   *
   * @param request The request.
   * @param info The connection of the request.
   * @returns The response.
   */
  fetch(request: Request, info: HttpInfo): Response | Promise<Response>;
  /** Called in each worker before its first request, with the address that the server listens on. */
  onListen?(addr: Deno.NetAddr): void;
  /**
   * Answers a request whose `fetch` threw an error. By default, the error is printed and the client gets a 500. It is
   * called if the default export is a plain object. An application of a framework answers errors itself, and its
   * `onError` may have another meaning: that of Hono takes a function.
   */
  onError?(error: unknown): Response | Promise<Response>;
}

/** The settings that a worker is started with. */
export interface WorkerSettings {
  /** The address that the server listens on, for `onListen`. */
  readonly addr: Deno.NetAddr;
  /** The time to finish responses when the worker has to end, in milliseconds. */
  readonly shutdownTimeout: number;
  /** The maximum size of a request's body in bytes. `null`, which is what JSON has for `Infinity`, means any size. */
  readonly maxRequestBodySize?: number | null;
}

const IGNORED_SIGNALS: readonly Deno.Signal[] = Deno.build.os === "windows"
  ? ["SIGINT", "SIGBREAK", "SIGHUP"]
  : ["SIGINT", "SIGTERM", "SIGHUP"];

function ignore(): void {}

/**
 * Serves a module until the source ends.
 *
 * @param name The URL of the module, for the error message.
 * @param module The exports of the module.
 * @param settings The address of the server, and the time to finish responses.
 * @throws {TypeError} If the default export does not have a `fetch` function.
 */
export async function serveModule(name: string, module: unknown, settings: WorkerSettings): Promise<void> {
  const app = (module as { default?: Partial<ServedModule> }).default;
  if (typeof app?.fetch !== "function") {
    throw new TypeError(`Cannot serve ${name}: its default export has no "fetch" function`);
  }
  const { fetch, onError } = app as ServedModule;
  const { shutdownTimeout, maxRequestBodySize } = settings;
  const answersErrors = onError !== undefined && Object.getPrototypeOf(app) === Object.prototype;
  app.onListen?.(settings.addr);
  const handler = (request: Request, info: HttpInfo) => fetch.call(app, request, info);
  const options = {
    shutdownTimeout,
    ...maxRequestBodySize === undefined ? {} : { maxRequestBodySize: maxRequestBodySize ?? Infinity },
    ...answersErrors ? { onError: (error: unknown) => onError.call(app, error) } : {},
  };
  // A terminal, or a service manager, signals all processes of the server. It is the supervisor that ends a worker.
  for (const signal of IGNORED_SIGNALS) Deno.addSignalListener(signal, ignore);
  await serveHttp(receive(), handler, options).finished;
  for (const signal of IGNORED_SIGNALS) Deno.removeSignalListener(signal, ignore);
}
