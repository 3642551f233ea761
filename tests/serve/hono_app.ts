// A Hono application for `handoff serve`: says who answers, with as many bytes as `../upgrade/load_client.ts` asks for.
import { Hono } from "npm:hono@4.13.19";

const app = new Hono();
app.get("/", (context) => context.text(`${Deno.pid} ${"x".repeat(2_000)}`));
app.get("/pid", (context) => context.text(`${Deno.pid}`));
app.get("/throw", () => {
  // Hono lets go what is no Error.
  throw "no error";
});
app.get("/*", (context) => context.text(context.req.path));

export default app;
