// Serves HTTP on the connections it is handed, which it accepts by hand. `/leave` begins its shutdown.
import { receive } from "@winsock/handoff";
import { serveHttp } from "@winsock/handoff/http";

const server = serveHttp(receive({ autoAccept: false }), async (request, { data, completed }) => {
  const { pathname } = new URL(request.url);
  if (pathname === "/leave") completed.then(() => server.shutdown());
  return Response.json({ pathname, data, text: await request.text() });
}, { keepAliveTimeout: 300 });
await server.finished;
console.log(`left with ${server.connectionCount} connections`);
