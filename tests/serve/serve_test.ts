import { fileURLToPath, pathToFileURL } from "node:url";
import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { isAlive, kill } from "../kit/faults/acts.ts";
import { listen } from "@winsock/handoff";
import { serve } from "@winsock/handoff/serve";
import { endChild, lines, until, within } from "../kit/process.ts";
import { layOutSnippets } from "../kit/snippets.ts";
import { get, serveCommand, ServeProcess } from "./serve_process.ts";

const ON_WINDOWS = Deno.build.os === "windows";
/** A worker finds the project's configuration, and by that what the library imports, beside its program. */
const IN_PROJECT = fileURLToPath(new URL("../../.cache", import.meta.url));
async function makeFolder(): Promise<string> {
  await Deno.mkdir(IN_PROJECT, { recursive: true });
  return await Deno.makeTempDir({ dir: IN_PROJECT });
}

/** Writes a module that answers `version 1`, and returns what writes another version of it. */
async function writeVersions(folder: string) {
  const main = `${folder}/main.ts`;
  const write = (version: number) =>
    Deno.writeTextFile(main, `export default { fetch: () => new Response("version ${version}") };`);
  await write(1);
  return { main, write };
}

const APP = new URL("app.ts", import.meta.url).href;
const TIMED_APP = new URL("timed_app.ts", import.meta.url).href;

for (const how of ["connections", "listener"]) {
  Deno.test(`serve: all workers answer, with a permission to run Deno and one to use sockets: ${how}`, async () => {
    await using server = await ServeProcess.start(["--workers", "2", "--distribute", how, APP]);
    const processes = await server.untilAnswered(2);
    assert(!processes.has(String(server.pid)));
    await until(
      () => server.output.filter((line) => /^\[[01]\] module listens on \d+$/.test(line)).length === 2,
      "both say so",
    );
  });
}

Deno.test("serve: onError of the module answers a request that fails, and a body that is too long is refused", async () => {
  await using server = await ServeProcess.start(["--workers", "1", "--max-body-size", "10", APP]);
  assertEquals(await get(server.port, "/fail"), { status: 418, text: "failed as asked" });
  for (const [length, status] of [[10, 200], [11, 413]] as const) {
    const response = await fetch(`http://127.0.0.1:${server.port}/`, { method: "POST", body: "x".repeat(length) });
    await response.body?.cancel();
    assertEquals(response.status, status);
  }
});

Deno.test("serve: the module has its arguments, its output a prefix, and a request that does not end is given up", async () => {
  const folder = await makeFolder();
  try {
    const main = `${folder}/main.ts`;
    const fetchHandler = `({ url }) => url.endsWith("/hang") ? new Promise(() => {}) : Response.json(Deno.args)`;
    await Deno.writeTextFile(
      main,
      `export default { onListen: () => console.log("listens"), fetch: ${fetchHandler} };`,
    );
    const prefixed: number[] = [];
    const server = await serve({
      main,
      args: ["a b"],
      workers: 1,
      listener: listen({ hostname: "127.0.0.1", port: 0 }),
      denoFlags: ["--no-check", "--cached-only"],
      drainTimeout: 300,
      startTimeout: 60_000,
      outputPrefix: ({ index }) => (prefixed.push(index), "# "),
    });
    const { port } = server.addr;
    const { text } = await get(port, "/");
    const hanging = get(port, "/hang").then(() => "answered", () => "cut off");
    await until(() => server.statistics.workers[0]!.held > 0, "the worker has the request");
    // The default would be 30 s.
    await within(10_000, server[Symbol.asyncDispose]());
    assertEquals([JSON.parse(text), await hanging], [["a b"], "cut off"]);
    assert(prefixed.length > 0 && prefixed.every((index) => index === 0), String(prefixed));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("serve: a worker that ends is replaced, and is told of with its exit code", async () => {
  await using server = await ServeProcess.start(["--workers", "2", APP]);
  await server.untilAnswered(2);
  await get(server.port, "/end").catch(() => {});
  await until(() => server.errors.some((line) => /^Worker [01] \(process \d+\) ended: .*7/.test(line)), "it is told");
  await server.untilAnswered(2);
});

Deno.test("serve: the workers end with the process that has started them, however that ends", async () => {
  await using server = await ServeProcess.start(["--workers", "2", TIMED_APP]);
  const workers = await server.untilAnswered(2);
  kill(server.pid);
  await until(() => [...workers].every((worker) => !isAlive(Number(worker))), "the workers have ended");
});

Deno.test("serve: what cannot be served says why, and ends with 1", async () => {
  const folder = await makeFolder();
  try {
    for (
      const [text, message] of [
        ["export default 1;", 'its default export has no "fetch" function'],
        ["export const other = 1;", 'its default export has no "fetch" function'],
        ["throw new Error('not today');", "not today"],
      ]
    ) {
      const main = `${folder}/main.ts`;
      await Deno.writeTextFile(main, text!);
      const ended = await ServeProcess.run(["--workers", "1", main]);
      assertEquals(ended.code, 1, ended.errors);
      assertStringIncludes(ended.errors, message!);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("serve: a port that is taken is an error that says so", async () => {
  await using server = await ServeProcess.start(["--workers", "1", APP]);
  const { code, errors } = await ServeProcess.run(["--workers", "1", "--port", String(server.port), APP]);
  assertEquals(code, 1);
  assertMatch(errors, /WSAEADDRINUSE|AddrInUse|in use/i);
});

Deno.test("serve: a command that is wrong ends with 2 and says what is", async () => {
  for (
    const [args, message] of [
      [[], "serve takes one module"],
      [["--port", "99999", APP], "Invalid --port: must be an integer from 0 to 65535"],
      [["--workers", "0", APP], "Invalid --workers"],
      [["--max-body-size", "Infinity", APP], "Invalid --max-body-size"],
      [["--distribute", "fairly", APP], "Invalid --distribute"],
      [["--watch", "https://localhost/app.ts"], "Invalid --watch: https://localhost/app.ts is not a file"],
      [["--colour", APP], "--colour is not an option of serve"],
    ] as const
  ) {
    const { code, errors } = await ServeProcess.run([...args]);
    assertEquals(code, 2, errors);
    assertStringIncludes(errors, message);
  }
});

Deno.test({
  name: "serve: SIGTERM lets a response finish and ends with 0",
  ignore: ON_WINDOWS,
  async fn() {
    await using server = await ServeProcess.start(["--workers", "2", "--drain-timeout", "60000", TIMED_APP]);
    await server.untilAnswered(2);
    const slow = get(server.port, "/slow");
    await new Promise((resolve) => setTimeout(resolve, 150));
    // As a terminal does, or a service manager: all processes of the server are signalled.
    for (const processId of server.answered) Deno.kill(Number(processId), "SIGTERM");
    server.signal("SIGTERM");
    assertEquals((await slow).status, 200);
    assertEquals(await within(20_000, server.code), 0);
  },
});

Deno.test({
  name: "serve: SIGTERM during an upgrade ends the new version too",
  ignore: ON_WINDOWS,
  async fn() {
    for (const when of ["while it starts", "when it serves"]) {
      const folder = await makeFolder();
      try {
        const control = `${folder}/control`;
        const main = `${folder}/main.ts`;
        const app = "export default { fetch: () => new Response(String(Deno.pid)) };";
        await Deno.writeTextFile(main, app);
        await using server = await ServeProcess.start(
          ["--workers", "1", "--control", control, main],
          [`--allow-read=${folder}`, `--allow-write=${folder}`, "--allow-env=WINSOCK_HANDOFF_PREDECESSOR"],
        );
        const [before] = await server.untilAnswered(1);
        const slowly = when === "while it starts" ? `await new Promise((resolve) => setTimeout(resolve, 2_000)); ` : "";
        await Deno.writeTextFile(main, slowly + app);
        const upgrading = ServeProcess.upgrade(control, [`--allow-read=${control}`]);
        if (slowly !== "") await new Promise((resolve) => setTimeout(resolve, 500));
        else await until(async () => (await get(server.port, "/")).text !== before, "the new version serves");
        server.signal("SIGTERM");
        assertEquals(await within(20_000, server.code), 0);
        const { code, errors } = await upgrading;
        if (slowly !== "") assertEquals(code, 1, errors);
        await new Promise((resolve) => setTimeout(resolve, 2_500));
        await assertRejects(() => get(server.port, "/"), Error, "ECONNREFUSED");
      } finally {
        await Deno.remove(folder, { recursive: true });
      }
    }
  },
});

for (const [signal, says] of [["SIGTERM", undefined], ["SIGHUP", "All workers were replaced"]] as const) {
  Deno.test({
    name: `serve: ${signal} that comes before the server is ready ${
      says ? "replaces the workers then" : "ends it with 0"
    }`,
    ignore: ON_WINDOWS,
    async fn() {
      const folder = await makeFolder();
      try {
        const main = `${folder}/main.ts`;
        const slowly = `console.log("loads"); await new Promise((resolve) => setTimeout(resolve, 700));`;
        await Deno.writeTextFile(main, `${slowly} export default { fetch: () => new Response("here") };`);
        const child = serveCommand(["--workers", "1", main]).spawn();
        try {
          const line = lines(child);
          assertEquals(await within(30_000, line()), "[0] loads");
          child.kill(signal);
          if (says !== undefined) {
            assertMatch(await within(30_000, line()) ?? "", /^Listening on /);
            assertEquals(await within(30_000, line()), "[0] loads");
            assertEquals(await within(30_000, line()), says);
            child.kill("SIGTERM");
          }
          assertEquals((await within(30_000, child.status)).code, 0);
        } finally {
          await endChild(child);
          await child.stderr.cancel();
        }
      } finally {
        await Deno.remove(folder, { recursive: true });
      }
    },
  });
}

Deno.test("serve: --watch replaces the workers when a file changes, also if the module is named by a URL", async () => {
  const folder = await makeFolder();
  try {
    const { main, write } = await writeVersions(folder);
    for (const [version, name] of [[2, main], [3, pathToFileURL(main).href]] as const) {
      await using server = await ServeProcess.start(["--workers", "1", "--watch", name], [`--allow-read=${folder}`]);
      await write(version);
      await until(() => server.output.includes("All workers were replaced"), "they are replaced");
      assertEquals((await get(server.port, "/")).text, `version ${version}`);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

for (const how of ["connections", "listener"]) {
  Deno.test({
    name: `serve: SIGHUP replaces the workers by what is on disk, and no request fails: ${how}`,
    ignore: ON_WINDOWS,
    async fn() {
      const folder = await makeFolder();
      try {
        const { main, write } = await writeVersions(folder);
        await using server = await ServeProcess.start(["--workers", "2", "--distribute", how, main]);
        const load = server.load(8);
        for (let version = 2; version <= 4; version++) {
          await write(version);
          server.signal("SIGHUP");
          await until(
            () => server.output.filter((line) => line === "All workers were replaced").length === version - 1,
            "",
          );
          assertEquals((await get(server.port, "/")).text, `version ${version}`);
        }
        const { requests, failures } = await load.end();
        assertEquals(failures, []);
        assert(requests > 100, `${requests} requests`);
      } finally {
        await Deno.remove(folder, { recursive: true });
      }
    },
  });
}

for (const how of ["connections", "listener"]) {
  Deno.test(`serve: a control file has the whole server replaced, and no request fails: ${how}`, async () => {
    const folder = await makeFolder();
    try {
      const control = `${folder}/control`;
      await using server = await ServeProcess.start(
        ["--workers", "2", "--distribute", how, "--control", control, APP],
        [
          `--allow-read=${folder}`,
          `--allow-write=${folder}`,
          "--allow-env=WINSOCK_HANDOFF_PREDECESSOR",
        ],
      );
      const before = await server.untilAnswered(2);
      const load = server.load(8);
      const upgraded = await ServeProcess.upgrade(control, [`--allow-read=${control}`]);
      assertEquals(upgraded.code, 0, upgraded.errors);
      const successor = Number(/Process (\d+) serves now/.exec(upgraded.output)?.[1]);
      server.alsoEnds(successor);
      assertEquals(await within(30_000, server.code), 0);
      const after = await server.untilAnswered(2);
      assertEquals(before.intersection(after).size, 0);
      const { requests, failures } = await load.end();
      assertEquals(failures, []);
      assert(requests > 20, `${requests} requests`);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}

for (const page of ["README.md", "docs/deploying.md"]) {
  Deno.test(`serve: the module of ${page} is one`, async () => {
    await using snippets = await layOutSnippets(page, ["app.ts"], 0);
    await using server = await ServeProcess.start([
      "--workers",
      "1",
      fileURLToPath(new URL("app.ts", snippets.folder)),
    ]);
    const { status, text } = await get(server.port, "/there");
    assertEquals([status, /^Process \d+ answers \/there\n$/.test(text)], [200, true], text);
  });
}
