/**
 * A worker of `http_pool.ts`: an Express application, unchanged except for its last line. It was
 * `http.createServer(app).listen(8080)`, for which `app.listen(8080)` is short.
 *
 * @module
 */
// @deno-types="npm:@types/express@5.0.6"
import express, { type NextFunction, type Request, type Response } from "npm:express@5.3.0";
import http from "node:http";
import process from "node:process";
import { serveNode } from "./serve_node.ts";

const app = express();
app.use(express.json());
app.get("/", (_, response) => void response.send(`Hello from process ${process.pid}\n`));
app.get("/hello/:name", (request, response) => void response.json({ hello: request.params.name, ...request.query }));
app.post("/echo", (request, response) => void response.status(201).json(request.body));
app.get("/error", () => {
  throw new Error("This is no good");
});
app.use((error: Error, _: Request, response: Response, __: NextFunction) => {
  response.status(500).json({ error: error.message });
});

await serveNode(http.createServer(app));
