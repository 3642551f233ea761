/**
 * The `Request` that handlers get of what `node:http` has parsed.
 *
 * It is Deno's own, so that all Deno does with requests works with this one: `clone`, `new Request(request)`,
 * `fetch(url, request)`, the Cache API.
 *
 * @module
 */
import type { IncomingMessage } from "node:http";
import type { SocketAddr } from "../sockets/address.ts";
import { freezeHeaders, lazyRequest } from "./fetch_internals.ts";
import type { RequestBody } from "./request_body.ts";

/** How many headers a request may have. Those of Node's own limit vanish without a word. */
const MOST_HEADERS = 1_000;
/** What may stand in a Host line, so that it ends where the path begins. */
const HOST = /^[^\s/\\?#]*$/;

/**
 * Why a request is not for the handler.
 *
 * @returns The status that says so; `undefined` if it is.
 */
export function refusalOf(
  { rawHeaders, headers, httpVersion }: IncomingMessage,
  body: RequestBody,
): number | undefined {
  if (rawHeaders.length > 2 * MOST_HEADERS) return 431;
  // Node would take the first, and what stands before it perhaps another.
  if (linesOf(rawHeaders, "host").length > 1) return 400;
  // Whether what follows is a body or the next request, each proxy may see otherwise.
  if (httpVersion === "1.0" && headers["transfer-encoding"] !== undefined) return 400;
  if (body.expected && isWebSocket(headers)) return 400;
  return body.announcedTooLarge ? 413 : undefined;
}

/** Whether a request may ask for a WebSocket. Others, such as curl's for HTTP/2, may be answered as if they had not asked. */
export function asksForWebSocket({ rawHeaders, headers }: IncomingMessage): boolean {
  if (headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0) return false;
  return isWebSocket(headers) && rawHeaders.length <= 2 * MOST_HEADERS && linesOf(rawHeaders, "host").length <= 1;
}

/** Whether a request asks for another protocol: Node reads no other request after it. */
export function asksForUpgrade({ headers: { upgrade, connection } }: IncomingMessage): boolean {
  return upgrade !== undefined && hasUpgrade(connection);
}

/**
 * Makes the request.
 *
 * @param localAddr Stands in the URL of a request without Host.
 * @param onAbort Is given what aborts the signal of the request.
 * @returns `undefined` if its target or Host is none.
 */
export function makeRequest(
  incoming: IncomingMessage,
  body: RequestBody,
  localAddr: SocketAddr,
  onAbort: (abort: () => void) => void,
): Request | undefined {
  const url = urlOf(incoming, localAddr);
  if (url === undefined) return undefined;
  const method = incoming.method!;
  let request: Request;
  try {
    // What is made of a text alone, and given its headers one by one, takes half the time.
    request = lazyRequest(url, method === "GET" || method === "TRACE" ? undefined : initOf(method, body), onAbort);
    addHeaders(request.headers, incoming.rawHeaders);
  } catch {
    return undefined;
  }
  freezeHeaders(request.headers);
  // Deno makes no request of that name, which clients must not send; those that do may see what came.
  if (method === "TRACE") Object.defineProperty(request, "method", { value: method });
  return request;
}

function isWebSocket({ upgrade, connection }: IncomingMessage["headers"]): boolean {
  return upgrade?.toLowerCase() === "websocket" && hasUpgrade(connection);
}

function hasUpgrade(connection: string | undefined): boolean {
  return connection !== undefined && /(^|,)\s*upgrade\s*(,|$)/i.test(connection);
}

function urlOf(
  { url: target = "", method, headers, socket }: IncomingMessage,
  localAddr: SocketAddr,
): string | undefined {
  if (/^https?:\/\//i.test(target)) return target;
  const { host = "" } = headers;
  if (!HOST.test(host)) return undefined;
  const origin = `${"encrypted" in socket && socket.encrypted ? "https" : "http"}://${host || hostOf(localAddr)}`;
  if (target.startsWith("/")) return origin + target;
  return target === "*" && method === "OPTIONS" ? `${origin}/*` : undefined;
}

/** What stands for a missing Host, as with `Deno.serve`; a local connection has no address that can. */
function hostOf(address: SocketAddr): string {
  if ("path" in address) return "localhost";
  const { hostname, port } = address;
  if (/^(127\.|0\.0\.0\.0$|::1?$)/.test(hostname)) return `localhost:${port}`;
  return `${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;
}

function initOf(method: string, body: RequestBody): RequestInit {
  return method === "HEAD" ? { method } : { method, body: body.expected ? body.stream() : new Uint8Array(0) };
}

/** Adds headers as they came, and one line for several with cookies, for they are not joined as other headers are. */
function addHeaders(headers: Headers, rawHeaders: readonly string[]): void {
  let cookies: string | undefined;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const [name, value] = [rawHeaders[at]!, rawHeaders[at + 1]!];
    if (name.length === 6 && name.toLowerCase() === "cookie") {
      cookies = cookies === undefined ? value : `${cookies}; ${value}`;
    } else headers.append(name, value);
  }
  if (cookies !== undefined) headers.append("cookie", cookies);
}

/** Where lines of that name, which is in lower case, begin. */
function linesOf(rawHeaders: readonly string[], name: string): number[] {
  const lines: number[] = [];
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const key = rawHeaders[at]!;
    if (key.length === name.length && key.toLowerCase() === name) lines.push(at);
  }
  return lines;
}
