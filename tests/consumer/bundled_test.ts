// Programs of which each is one file, library and all, as docs/getting-started.md says how to make them.
import { assertEquals } from "@std/assert";
import { BUNDLES } from "../../tools/bundles.ts";
import { answerOf } from "./answer.ts";

Deno.test("programs bundled into one file each hand a connection over, and answer on it, also in HTTP", async () => {
  assertEquals(await answerOf("worker.js", "source.js", { cwd: BUNDLES }), { path: undefined });
  assertEquals(await answerOf("http_worker.js", "source.js", { cwd: BUNDLES }), { path: "/path" });
});
