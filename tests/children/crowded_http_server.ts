// Serves HTTP on a listener in a process that may have few descriptors, and says what onError is told.
import { listen } from "@winsock/handoff";
import { serveHttp } from "@winsock/handoff/http";

// Deno opens two descriptors for signals half a second after its start, unless it has them, and panics if it cannot.
Deno.addSignalListener("SIGINT", () => {});
const listener = listen({ hostname: "127.0.0.1", port: 0 });
console.log(listener.addr.port);
const server = serveHttp(listener, ({ url }) => {
  if (url.endsWith("/leave")) setTimeout(() => server.shutdown(), 0);
  return new Response("served");
}, { onError: (error) => console.log(error instanceof Error ? error.message : error), shutdownTimeout: 500 });
await server.finished;
console.log(`left with ${server.connectionCount} connections`);
