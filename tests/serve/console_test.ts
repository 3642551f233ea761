// `handoff serve` below a wrapper for Windows services, which stops it by an event of the console.
import { assert, assertEquals } from "@std/assert";
import { isAlive } from "../kit/faults/acts.ts";
import { until, within } from "../kit/process.ts";
import { isWine } from "../kit/wine.ts";
import { get, ServeProcess } from "./serve_process.ts";

const APP = new URL("app.ts", import.meta.url).href;

for (const event of ["Ctrl-C", "Ctrl-Break"] as const) {
  Deno.test({
    name: `serve: ${event} to all processes of a console lets a response finish and ends with 0`,
    // Wine 10 ends a thread of each process at Ctrl-Break.
    ignore: Deno.build.os !== "windows" || event === "Ctrl-Break" && isWine(),
    async fn() {
      await using server = await ServeProcess.startInConsole(["--workers", "2", APP]);
      const workers = await server.untilAnswered(2);
      const slow = get(server.port, "/slow");
      await new Promise((resolve) => setTimeout(resolve, 150));
      await server.press(event);
      const { status, text } = await slow;
      assertEquals(status, 200);
      assert(workers.has(text), text);
      assertEquals(await within(20_000, server.code), 0);
      await until(() => [...workers].every((worker) => !isAlive(Number(worker))), "the workers have ended");
    },
  });
}
