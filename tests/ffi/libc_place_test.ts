// libc in the places where images and distributions keep it: found, named by a variable, or an error that names the way out.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { LIBRARY_PATHS } from "@winsock/handoff";
import { FFI_GRANT, RUN } from "../kit/process.ts";
import { unixSystem } from "../../ffi/unix/libc.ts";
import { LINUX } from "../../ffi/unix/linux.ts";
import { moduleUrl, runCode } from "../kit/run.ts";

const VARIABLE = "WINSOCK_HANDOFF_LIBC";
const ENV_GRANT = `--allow-env=${VARIABLE}`;
const onLinux = { ignore: Deno.build.os !== "linux" || unixSystem() !== LINUX };

const LISTEN = `import { LIBRARY_PATHS, listen } from ${moduleUrl("mod.ts")};
  try {
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    console.log("listens", LIBRARY_PATHS.length);
  } catch (error) {
    console.log(error.name, error.message);
  }`;

/** Hands a connection to a worker, which echoes. */
const HAND_OFF = `import { connect, HandoffSource, listen } from ${moduleUrl("mod.ts")};
  const worker = ${moduleUrl("tests/children/echo.ts")};
  await using source = await HandoffSource.spawn(worker, { denoFlags: ["--no-check", "--cached-only"] });
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  using client = (await connect({ port: listener.addr.port })).toConn();
  await source.send(await listener.accept());
  await client.write(new TextEncoder().encode("handed off"));
  const bytes = new Uint8Array(20);
  console.log(new TextDecoder().decode(bytes.subarray(0, await client.read(bytes))));
  await client.closeWrite();`;

/** The arguments that run code of this project. */
function code(text: string): string[] {
  const config = new URL("../../deno.json", import.meta.url).pathname;
  return [`--config=${config}`, `data:text/javascript,${encodeURIComponent(text)}`];
}

/** Runs a program; its output and errors. */
async function output(command: string, args: string[], env: Record<string, string> = {}): Promise<string> {
  const { stdout, stderr } = await new Deno.Command(command, { args, env, stdin: "null" }).output();
  return new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
}

/** A glibc in a folder of its own, and a Deno whose loader and libraries are that glibc. */
interface Installation extends AsyncDisposable {
  readonly folder: string;
  readonly deno: string;
  /** The folder of the system's libc. */
  readonly usual: string;
}

/** Copies this Deno, its libraries and its loader, and has the copy begin with that loader. */
async function install(): Promise<Installation> {
  // The path of the loader must not be longer than the one that it replaces in the executable.
  const folder = `/tmp/h${crypto.getRandomValues(new Uint16Array(1))[0]!.toString(16)}`;
  await Deno.mkdir(`${folder}/lib`, { recursive: true });
  const libraries = [...(await output("ldd", [Deno.execPath()])).matchAll(/(?:=> )?(\/\S+) \(0x/g)].map(([, path]) =>
    path!
  );
  const loader = libraries.find((path) => /\/ld-linux-[^/]*$/.test(path))!;
  for (const path of libraries) await Deno.copyFile(path, `${folder}/lib/${path.split("/").at(-1)}`);
  const deno = `${folder}/deno`;
  await Deno.copyFile(Deno.execPath(), deno);
  await Deno.copyFile(loader, `${folder}/ld.so`);
  using file = await Deno.open(deno, { read: true, write: true });
  const head = new Uint8Array(4096);
  await file.read(head);
  const at = new TextDecoder("latin1").decode(head).indexOf(`${loader}\0`);
  assert(at > 0 && `${folder}/ld.so`.length <= loader.length, loader);
  await file.seek(at, Deno.SeekMode.Start);
  await file.write(new TextEncoder().encode(`${folder}/ld.so`.padEnd(loader.length + 1, "\0")));
  const libc = await Deno.realPath(libraries.find((path) => path.endsWith("/libc.so.6"))!);
  return {
    folder,
    deno,
    usual: libc.slice(0, libc.lastIndexOf("/")),
    [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }),
  };
}

Deno.test("a libc that the variable names is the one that doctor finds, and workers get it too", onLinux, async () => {
  await using place = await install();
  const libc = `${place.folder}/lib/libc.so.6`;
  const env = { [VARIABLE]: libc, LD_LIBRARY_PATH: `${place.folder}/lib` };
  const grants = [...RUN, "--allow-run", `--allow-ffi=${libc}`, ENV_GRANT];
  const doctor = new URL("../../cli/mod.ts", import.meta.url).href;
  assertStringIncludes(
    await output(place.deno, [...grants, doctor, "doctor"], env),
    `ok     library   Opened ${libc}\n`,
  );
  assertStringIncludes(
    await output(place.deno, [...grants, ...code(HAND_OFF)], env),
    "handed off",
  );
});

Deno.test("a libc where Deno's images have it is found without any variable", onLinux, async (t) => {
  await using place = await install();
  const { folder, usual, deno } = place;
  await Deno.mkdir(`${folder}/empty`);
  // The last mount hides the libraries of the commands themselves.
  const script = `mount --bind ${folder}/lib /usr/local/lib && mount --bind ${folder}/empty ${usual} && exec "$@"`;
  const hidden = ["--map-root-user", "--mount", "sh", "-c", script, "sh"];
  const possible = await output("unshare", [...hidden, `${folder}/ld.so`, "--version"]);
  // Some systems give namespaces to root alone, some to nobody.
  await t.step({
    name: "in namespaces",
    ignore: !possible.includes("ld.so"),
    fn: async () => {
      const env = { LD_LIBRARY_PATH: "/usr/local/lib" };
      const run = (...args: string[]) =>
        output("unshare", [...hidden, deno, ...RUN, "--allow-run", FFI_GRANT, ...args], env);
      const doctor = new URL("../../cli/mod.ts", import.meta.url).href;
      assertStringIncludes(await run(doctor, "doctor"), "ok     library   Opened /usr/local/lib/libc.so.6\n");
      assertStringIncludes(await run(...code(HAND_OFF)), "handed off");
    },
  });
});

Deno.test("with all of --allow-ffi, the libc that Deno has loaded is used, wherever it is", onLinux, async () => {
  await using place = await install();
  const text = `${LISTEN}
    import { openedLibraries } from ${moduleUrl("ffi/library.ts")};
    console.log(openedLibraries().join());`;
  const args = [...RUN, "--allow-ffi", ...code(text)];
  const printed = await output(place.deno, args, { LD_LIBRARY_PATH: `${place.folder}/lib` });
  assertEquals(printed.trim().split("\n"), [`listens ${LIBRARY_PATHS.length}`, "libc.so.6"]);
});

Deno.test(
  "an error about the path of libc names the variable; one that the variable caused names its path",
  onLinux,
  async () => {
    const hint = `If libc has another path, set ${VARIABLE} to it, and grant ${ENV_GRANT} and --allow-ffi=PATH`;
    const refused = await runCode(LISTEN);
    assertStringIncludes(refused, `NotCapable Requires ffi access to "${LIBRARY_PATHS[0]}"`);
    assertStringIncludes(refused, hint);
    Deno.env.set(VARIABLE, "/nowhere/libc.so.6");
    try {
      assertEquals(await runCode(LISTEN, "--allow-ffi", ENV_GRANT), "NotFound Cannot open /nowhere/libc.so.6");
      assertStringIncludes(
        await runCode(LISTEN, FFI_GRANT, ENV_GRANT),
        'NotCapable Requires ffi access to "/nowhere/libc.so.6"',
      );
      // Without the permission for it, the variable is not read, and nothing is requested.
      assertEquals(await runCode(LISTEN, FFI_GRANT), `listens ${LIBRARY_PATHS.length}`);
      Deno.env.set(VARIABLE, "libc.so.6");
      const relative = `TypeError Invalid \`${VARIABLE}\`: must be an absolute path, got libc.so.6`;
      assertEquals(await runCode(LISTEN, "--allow-ffi", ENV_GRANT), relative);
      Deno.env.set(VARIABLE, "");
      assertEquals(await runCode(LISTEN, FFI_GRANT, ENV_GRANT), `listens ${LIBRARY_PATHS.length}`);
    } finally {
      Deno.env.delete(VARIABLE);
    }
  },
);

Deno.test("a Deno that is linked with musl is told that it needs glibc", onLinux, async () => {
  const musl = `Object.defineProperty(Deno, "build", { value: { ...Deno.build, env: "musl" } });`;
  const text = await runCode(LISTEN, FFI_GRANT, `--preload=data:text/javascript,${encodeURIComponent(musl)}`);
  assertEquals(
    text,
    "NotSupported Cannot use sockets with musl: @winsock/handoff needs a Deno that is linked with glibc, such as the images" +
      " denoland/deno and denoland/deno:alpine have",
  );
});
