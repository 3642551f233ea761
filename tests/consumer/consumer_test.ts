// A project of somebody else's, outside of this one, that adds the package from a registry it was published to.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import project from "../../deno.json" with { type: "json" };
import { layOutPackage, LINKS } from "../../tools/package.ts";
import { RUN, until } from "../kit/process.ts";
import { type Handoff, ServeProcess } from "../serve/serve_process.ts";
import { answerOf } from "./answer.ts";
import { startRegistry } from "./registry.ts";
import { cp } from "node:fs/promises";
import { fileURLToPath, pathToFileURL } from "node:url";

const PROGRAMS = ["source.ts", "worker.ts", "http_worker.ts", "app.ts", "usage.ts"];
const ENTRY_POINTS = Object.keys(project.exports).map((name) => project.name + name.slice(1));
const README = Deno.readTextFileSync(new URL("../../README.md", import.meta.url));
/** How the README says the package is added, and its program run, in the project and outside of it. */
const ADD = inReadme(/^deno (add jsr:\S+)$/m);
const RUN_PROGRAM = inReadme(/`deno (run \S+ errors 10038)`/);
const RUN_OUTSIDE = ["run", ...inReadme(/ is `(jsr:\S+)`\.$/m), "errors", "10038"];
/** What the package, the stand-ins and the project import, or look for, on npm, or its scope. Nothing is fetched. */
const NPM_PACKAGES = ["@opentelemetry", "bufferutil", "deno-std", "hono", "mime-db", "utf-8-validate", "ws"];

/** Somebody else, who has a cache of their own, and a registry. */
class Stranger implements AsyncDisposable {
  /** Where they keep everything. */
  readonly folder: URL;
  readonly project: URL;
  readonly env: Record<string, string>;
  readonly #registry = startRegistry(LINKS.length === 0);

  constructor() {
    this.folder = pathToFileURL(`${Deno.makeTempDirSync()}/`);
    this.project = new URL("project/", this.folder);
    this.env = {
      DENO_DIR: fileURLToPath(new URL("cache", this.folder)),
      JSR_URL: this.#registry.url,
      NO_COLOR: "1",
    };
  }

  /** Publishes the package, and the stand-ins for JSR's. */
  async publish(include?: string[]): Promise<{ success: boolean; output: string }> {
    await layOutPackage(this.folder, include);
    const { npmCache } = JSON.parse((await deno(new URL("package/", this.folder), {}, "info", "--json")).output);
    for await (const { name: registry } of Deno.readDir(npmCache)) {
      for await (const { name } of Deno.readDir(`${npmCache}/${registry}`)) {
        if (!NPM_PACKAGES.includes(name)) continue;
        const to = new URL(`cache/npm/${registry}/${name}`, this.folder);
        await cp(`${npmCache}/${registry}/${name}`, to, { recursive: true });
      }
    }
    for (const folder of [...LINKS, "package"]) {
      const cwd = new URL(`${folder}/`, this.folder);
      const published = await deno(
        cwd,
        this.env,
        "publish",
        "--allow-dirty",
        "--no-check",
        "--no-provenance",
        "--token=any",
      );
      if (!published.success || folder === "package") return published;
    }
    throw new Error("Nothing was published");
  }

  /** Makes a project, and adds the package to it as the README says. */
  async add(): Promise<void> {
    await Deno.mkdir(this.project);
    for (const name of PROGRAMS) {
      await Deno.copyFile(new URL(`project/${name}`, import.meta.url), new URL(name, this.project));
    }
    const imports = ENTRY_POINTS.map((name, index) => `export * as entry${index} from ${JSON.stringify(name)};\n`);
    await Deno.writeTextFile(new URL("entry_points.ts", this.project), imports.join(""));
    await this.deno(this.project, ...ADD);
  }

  /** Its command line, as `deno run` takes it in the project. */
  get handoff(): Handoff {
    return { cli: `${project.name}/cli`, cwd: this.project, env: this.env };
  }

  /** Runs Deno in a folder; what it printed. */
  async deno(folder: URL, ...args: string[]): Promise<string> {
    const { success, output } = await deno(folder, this.env, ...args);
    assert(success, output);
    return output;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#registry[Symbol.asyncDispose]();
    // On Windows a folder is in use until the processes in it are gone.
    const remove = () => Deno.remove(this.folder, { recursive: true }).then(() => true, () => false);
    await until(remove, "the project is removed");
  }
}

function inReadme(command: RegExp): string[] {
  return command.exec(README)![1]!.split(" ");
}

async function deno(
  cwd: URL,
  env: Record<string, string>,
  ...args: string[]
): Promise<{ success: boolean; output: string }> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args, cwd, env }).output();
  return { success, output: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
}

Deno.test("a project that adds the package type-checks with it, imports every entry point, and hands off", async () => {
  await using stranger = new Stranger();
  const { success, output } = await stranger.publish();
  assert(success, output);
  await stranger.add();
  const { folder, project } = stranger;
  await stranger.deno(project, "check", "--quiet", ...PROGRAMS, "entry_points.ts");
  await stranger.deno(project, ...RUN, "entry_points.ts");
  assertMatch(await stranger.deno(project, ...RUN_PROGRAM), /^WSAENOTSOCK \(10038\) /m);
  assertMatch(await stranger.deno(folder, ...RUN_OUTSIDE), /^WSAENOTSOCK \(10038\) /m);
  assertEquals(await answerOf("worker.ts", "source.ts", { cwd: project, env: stranger.env }), { path: undefined });
  assertEquals(await answerOf("http_worker.ts", "source.ts", { cwd: project, env: stranger.env }), { path: "/path" });
});

Deno.test("a project that adds the package serves a Hono app on two workers, and replaces the server under load", async () => {
  await using stranger = new Stranger();
  const { success, output } = await stranger.publish();
  assert(success, output);
  await stranger.add();
  const control = fileURLToPath(new URL("control", stranger.folder));
  await using server = await ServeProcess.start(
    ["--workers", "2", "--control", control, "app.ts"],
    ["--allow-env=WINSOCK_HANDOFF_PREDECESSOR", `--allow-read=${control}`, `--allow-write=${control}`],
    [],
    stranger.handoff,
  );
  const before = await server.untilAnswered(2);
  const load = server.load(4);
  const upgraded = await ServeProcess.upgrade(control, [`--allow-read=${control}`], stranger.handoff);
  assertEquals(upgraded.code, 0, upgraded.errors);
  server.alsoEnds(Number(/\d+/.exec(upgraded.output)![0]));
  const after = await server.untilAnswered(2);
  const { requests, failures } = await load.end();
  assert(requests > 0);
  assertEquals(failures, []);
  assertEquals(before.intersection(after), new Set());

  const missing = await ServeProcess.run(["missing.ts"], stranger.handoff);
  assertEquals(missing.code, 1);
  assertMatch(missing.errors, /Module not found.*missing\.ts/s);
});

Deno.test("a package without files it needs is not published", async () => {
  await using stranger = new Stranger();
  const { success, output } = await stranger.publish(project.publish.include.filter((path) => path !== "sockets"));
  assert(!success);
  assertStringIncludes(output, "package/sockets/");
});
