// A Hono app for `handoff serve`.
import { Hono } from "npm:hono@4.13.19";

export default new Hono().get("/", (context) => context.text(String(Deno.pid)));
