// `handoff serve` as process 1 of a container: it gets the signals, and programs without a parent become its children.
import { assert, assertEquals } from "@std/assert";
import { fileURLToPath } from "node:url";
import { FFI_GRANT, RUN, until, within } from "../kit/process.ts";
import { processState } from "../kit/process_state.ts";
import { haveProgram } from "../kit/programs.ts";
import { get, ServeProcess } from "./serve_process.ts";

const CLI = new URL("../../cli/mod.ts", import.meta.url).href;
const APP = fileURLToPath(new URL("orphaning_app.ts", import.meta.url));
/** A container of its own needs the right to make one. */
const ignore = !haveProgram("unshare") || Deno.uid() !== 0;

/** The children of a process, as this namespace numbers them. */
function childrenOf(processId: number): number[] {
  return Deno.readTextFileSync(`/proc/${processId}/task/${processId}/children`).split(" ").filter(Boolean).map(Number);
}

Deno.test({
  name: "serve: as process 1 it replaces a worker, lets a response finish at SIGTERM, and ends with 0",
  ignore,
  async fn() {
    // What docs/deploying.md has a container run, and what `docker stop` does to it.
    const args = [
      "--pid",
      "--fork",
      "--kill-child",
      "--mount-proc",
      Deno.execPath(),
      ...RUN,
      "--allow-run",
      FFI_GRANT,
      CLI,
    ];
    const serve = ["serve", "--hostname", "127.0.0.1", "--port", "0", "--workers", "2", APP];
    const flags = ["--", "--no-check", "--cached-only", "--allow-run=sh"];
    await using server = await ServeProcess.startCommand(
      new Deno.Command("unshare", {
        args: [...args, ...serve, ...flags],
        stdin: "null",
        stdout: "piped",
        stderr: "piped",
      }),
    );
    const before = await server.untilAnswered(2);
    assert(!before.has("1"));
    const [first] = childrenOf(server.pid);
    // A program that the worker leaves behind becomes a child of process 1, and a zombie that nobody reaps.
    assertEquals((await get(server.port, "/orphan")).text, "left");
    const orphan = () => childrenOf(first!).some((child) => processState(child) === "Z");
    await until(orphan, "the program without a parent has ended");
    const [victim] = childrenOf(first!).filter((child) => processState(child) !== "Z");
    Deno.kill(victim!, "SIGKILL");
    await until(
      () => server.errors.some((line) => / ended: process \d+ was ended by SIGKILL/.test(line)),
      "it is told",
    );
    await until(async () => (await server.untilAnswered(2)).difference(before).size > 0, "another takes its place");
    assertEquals(processState(victim!), undefined);
    const slow = get(server.port, "/slow");
    await until(async () => (await get(server.port, "/waiting")).text !== "0", "a response is under way");
    Deno.kill(first!, "SIGTERM");
    assertEquals((await slow).status, 200);
    assertEquals(await within(20_000, server.code), 0);
  },
});
