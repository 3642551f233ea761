/**
 * The page, what it shows as a stream of events, and its button.
 *
 * @module
 */
import type { HttpHandler } from "@winsock/handoff/http";
import { EventStreams } from "./event_streams.ts";
import type { Monitor } from "./monitor.ts";
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
 * Shows a server.
 *
 * @param monitor What is known of it.
 * @param upgrade Has it replaced.
 * @returns What answers requests, and what ends all streams.
 */
export function liveView(monitor: Monitor, upgrade: () => void): { handler: HttpHandler; end: () => void } {
  const streams = new EventStreams(() => JSON.stringify(monitor.snapshot()));
  monitor.onChange = () => streams.send();

  const handler: HttpHandler = (request, { localAddr }) => {
    const { host, origin, pathname } = new URL(request.url);
    // A page of another server whose name was pointed here would be of the same origin.
    if (!["127.0.0.1", "localhost"].some((name) => host === `${name}:${localAddr.port}`)) return refuse(421);
    const file = FILES[pathname];
    if (request.method === "GET" && file !== undefined) return send(...file);
    switch (`${request.method} ${pathname}`) {
      case "GET /events":
        // What a version says that takes no more connections makes the browser ask again, over another connection.
        return send(monitor.leaving ? "retry: 100\n\n" : streams.open(), "text/event-stream");
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
