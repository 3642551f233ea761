/**
 * Serves the page, its stream of events, its button, and the numbers for Prometheus.
 *
 * @module
 */
import type { HttpHandler } from "@winsock/handoff/http";
import { EventStreams } from "./event_streams.ts";
import type { Monitor } from "./monitor.ts";
import { PROMETHEUS, prometheus } from "./prometheus.ts";
import page from "./page.html" with { type: "text" };
import pageStyle from "./page.css" with { type: "text" };
import script from "./page.js" with { type: "text" };
import versionStyle from "./version.css" with { type: "text" };
import workersStyle from "./workers.css" with { type: "text" };

const FILES: Readonly<Record<string, [content: string, type: string]>> = {
  "/": [page, "text/html"],
  "/page.css": [pageStyle, "text/css"],
  "/version.css": [versionStyle, "text/css"],
  "/workers.css": [workersStyle, "text/css"],
  "/page.js": [script, "text/javascript"],
};
const HEADERS = {
  "cache-control": "no-store",
  "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
};

/**
 * Creates the handler for the page of a server.
 *
 * @param monitor The state of the server.
 * @param upgrade Starts the upgrade.
 * @returns The handler, and a function that ends all streams.
 */
export function liveView(monitor: Monitor, upgrade: () => void): { handler: HttpHandler; end: () => void } {
  const streams = new EventStreams(() => JSON.stringify(monitor.snapshot()));
  monitor.onChange = () => streams.send();

  const handler: HttpHandler = (request, { localAddr }) => {
    const { host, origin, pathname } = new URL(request.url);
    // A page of another server whose name resolves to this address would have the same origin.
    if (!["127.0.0.1", "localhost"].some((name) => host === `${name}:${localAddr.port}`)) return refuse(421);
    const file = FILES[pathname];
    if (request.method === "GET" && file !== undefined) return send(...file);
    switch (`${request.method} ${pathname}`) {
      case "GET /events":
        // A version that no longer accepts connections tells the browser to ask again, on another connection.
        return send(monitor.leaving ? "retry: 100\n\n" : streams.open(), "text/event-stream");
      case "GET /metrics":
        return send(prometheus(monitor.statistics), PROMETHEUS);
      case "POST /upgrade":
        if (request.headers.get("origin") !== origin) return refuse(403);
        upgrade();
        return new Response(null, { status: 202, headers: HEADERS });
      default:
        return refuse(404);
    }
  };
  return { handler, end: () => streams.end() };
}

function send(body: BodyInit, type: string): Response {
  return new Response(body, { headers: { ...HEADERS, "content-type": `${type}; charset=utf-8` } });
}

function refuse(status: number): Response {
  return new Response(null, { status, headers: HEADERS });
}
