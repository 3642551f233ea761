// One Deno.serve. Prints the port.
import app from "./app.ts";

Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: ({ port }) => console.log(port) }, app.fetch);
