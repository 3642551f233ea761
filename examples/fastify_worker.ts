/**
 * A worker of `http_pool.ts`: a Fastify application, unchanged except for its last lines. They were
 * `await app.listen({ port: 8080 })`.
 *
 * @module
 */
import Fastify from "npm:fastify@5.12.8";
import process from "node:process";
import { serveNode } from "./serve_node.ts";

const app = Fastify();
app.get("/", () => `Hello from process ${process.pid}\n`);
app.get(
  "/hello/:name",
  (request) => ({ hello: (request.params as { name: string }).name, ...request.query as object }),
);
app.post("/echo", (request, reply) => reply.code(201).send(request.body));
app.get("/error", () => {
  throw new Error("This is no good");
});
app.setErrorHandler((error: Error, _, reply) => void reply.code(500).send({ error: error.message }));

await app.ready();
await serveNode(app.server);
