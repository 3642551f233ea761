// One of several processes of Bun that share a port: PORT. Prints the port.
const server = Bun.serve({
  port: Number(process.argv[2]),
  hostname: "127.0.0.1",
  reusePort: true,
  fetch: () => new Response("hello world"),
});
console.log(server.port);
