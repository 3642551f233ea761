// A project of somebody else's, outside of this one, that has nothing of it but what is published.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import project from "../../deno.json" with { type: "json" };
import { layOutPackage, LINKS } from "../../tools/package.ts";
import { endChild, FFI_GRANT, lines, RUN, until, within } from "../kit/process.ts";
import { pathToFileURL } from "node:url";

const PROGRAMS = ["source.ts", "worker.ts", "http_worker.ts", "usage.ts"];
const ENTRY_POINTS = Object.keys(project.exports).map((name) =>
  `jsr:${project.name}@^${project.version}${name.slice(1)}`
);

/** A folder with the package, and beside it a project that depends on it as `deno add` makes it do. */
async function makeProject(include?: string[]): Promise<{ folder: URL } & AsyncDisposable> {
  const temporary = await Deno.makeTempDir();
  const root = pathToFileURL(`${temporary}/`);
  const folder = new URL("project/", root);
  await layOutPackage(root, include);
  await Deno.mkdir(folder);
  for (const name of PROGRAMS) {
    await Deno.copyFile(new URL(`project/${name}`, import.meta.url), new URL(name, folder));
  }
  const imports = ENTRY_POINTS.map((specifier, index) =>
    `export * as entry${index} from ${JSON.stringify(specifier)};`
  );
  await Deno.writeTextFile(new URL("entry_points.ts", folder), imports.join("\n"));
  const config = {
    imports: { [project.name]: ENTRY_POINTS[0] },
    links: ["../package", ...LINKS.map((link) => link.replace("./", "../"))],
    lock: false,
  };
  await Deno.writeTextFile(new URL("deno.json", folder), JSON.stringify(config));
  return {
    folder,
    async [Symbol.asyncDispose]() {
      // On Windows a folder is in use until the processes in it are gone.
      const remove = () => Deno.remove(temporary, { recursive: true }).then(() => true, () => false);
      await until(remove, "the project is removed");
    },
  };
}

async function deno(cwd: URL, ...args: string[]): Promise<{ success: boolean; output: string }> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd,
    env: { NO_COLOR: "1" },
  }).output();
  return { success, output: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
}

/** What a worker answers that got a connection from the source, both under the smallest permissions. */
async function answer(folder: URL, worker: string) {
  const source = new Deno.Command(Deno.execPath(), {
    args: [...RUN, "--allow-run", FFI_GRANT, "source.ts", worker],
    cwd: folder,
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  try {
    const port = Number(await lines(source as Deno.ChildProcess)());
    using conn = await Deno.connect({ hostname: "127.0.0.1", port });
    await conn.write(new TextEncoder().encode("GET /path HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
    const text = await within(20_000, new Response(conn.readable).text());
    const { path, data, answeredBy } = JSON.parse(/\{.*\}/.exec(text)?.[0] ?? "{}");
    assertEquals(data, { acceptedBy: source.pid }, text);
    assert(answeredBy > 0 && answeredBy !== source.pid, text);
    return { path };
  } finally {
    await endChild(source);
  }
}

Deno.test("a project that has nothing but the package type-checks with it, and imports every entry point", async () => {
  await using consumer = await makeProject();
  const checked = await deno(consumer.folder, "check", "--quiet", ...PROGRAMS, "entry_points.ts");
  assert(checked.success, checked.output);
  const imported = await deno(consumer.folder, ...RUN, "entry_points.ts");
  assert(imported.success, imported.output);
  const ran = await deno(consumer.folder, ...RUN, `${ENTRY_POINTS[0]}/cli`, "errors", "10038");
  assertMatch(ran.output, /^WSAENOTSOCK \(10038\) /);
});

Deno.test("it hands a connection to a worker, which answers on it, also in HTTP", async () => {
  await using consumer = await makeProject();
  assertEquals(await answer(consumer.folder, "worker.ts"), { path: undefined });
  assertEquals(await answer(consumer.folder, "http_worker.ts"), { path: "/path" });
});

Deno.test("a package without files it needs is noticed", async () => {
  await using consumer = await makeProject(project.publish.include.filter((path) => path !== "sockets"));
  const { success, output } = await deno(consumer.folder, ...RUN, "entry_points.ts");
  assert(!success);
  assertStringIncludes(output, "package/sockets/");
});
