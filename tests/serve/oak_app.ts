// An Oak application for `handoff serve`.
import { Application, Router } from "npm:@oakserver/oak@14.1.0";

const router = new Router();
router.get("/", (context) => {
  context.response.body = `${Deno.pid}`;
});
router.post("/echo", async (context) => {
  context.response.body = await context.request.body.text();
});

const app = new Application();
app.use(router.routes());

export default app;
