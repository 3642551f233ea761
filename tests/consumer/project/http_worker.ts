// Answers HTTP requests on the connections it is handed.
import { receive } from "@winsock/handoff";
import { serveHttp } from "@winsock/handoff/http";

const server = serveHttp(receive(), (request, { data }) => {
  return Response.json({ path: new URL(request.url).pathname, data, answeredBy: Deno.pid });
});
await server.finished;
