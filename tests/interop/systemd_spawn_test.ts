// Starting programs as systemd does, with what they find there.
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { type AnySocket, connect, listen, type Listener, WinsockError } from "@winsock/handoff";
import { spawnActivated } from "@winsock/handoff/interop";
import { readText } from "../kit/connections.ts";
import { countDescriptors } from "../kit/descriptors.ts";
import { fcntl } from "../../ffi/unix/descriptors.ts";
import { needs } from "../kit/needs.ts";
import { FFI_GRANT, RUN, until, within } from "../kit/process.ts";
import { EXAMPLE, EXAMPLE_ENV_GRANT, haveProgram } from "../kit/programs.ts";

const withSystemd = needs("systemd");

function closesOnExec(handle: bigint): boolean {
  return (fcntl(handle, 1) & 1) === 1;
}

function blocks(handle: bigint): boolean {
  return (fcntl(handle, 3) & 0o4000) === 0;
}

/** Runs a program with sockets and returns what it printed. */
async function printed(
  command: string,
  sockets: [string, AnySocket][],
  args: string[],
  environment: { env?: Record<string, string>; clearEnv?: boolean; cwd?: string } = {},
): Promise<string> {
  const child = spawnActivated(command, sockets, {
    args,
    stdio: ["ignore", "pipe", "inherit"],
    ...environment,
  });
  const [output] = await within(20_000, Promise.all([text(child.stdout!), once(child, "exit")]));
  return output;
}

Deno.test({
  name: "a program is started in the directory that is given",
  ...withSystemd,
  fn: async () => {
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    const cwd = await Deno.realPath(await Deno.makeTempDir());
    try {
      assertEquals(await printed("pwd", [["web", listener]], ["-P"], { cwd }), `${cwd}\n`);
    } finally {
      await Deno.remove(cwd);
    }
  },
});

Deno.test({
  name: "a program started with sockets has them from 3 on, whatever numbers they have here",
  ...withSystemd,
  fn: async () => {
    const before = countDescriptors();
    {
      using owned = new DisposableStack();
      const listeners = Array.from({ length: 12 }, () => owned.use(listen({ hostname: "127.0.0.1", port: 0 })));
      const inode = (listener: Listener) => Deno.readLinkSync(`/proc/self/fd/${listener.handle}`);
      const named = listeners.toReversed().map((listener, index): [string, Listener] => [`name ${index}`, listener]);
      const script = `echo $LISTEN_PID $$ $LISTEN_FDS $LISTEN_FDNAMES $LISTEN_FDS_FIRST_FD
        for fd in 3 4 5 6 7 8 9 10 11 12 13 14; do readlink /proc/$$/fd/$fd; done`;
      const [variables, ...links] = (await printed("sh", named, ["-c", script])).trimEnd().split("\n");
      const names = named.map(([name]) => name).join(":");
      assertMatch(variables!, new RegExp(`^(\\d+) \\1 12 ${names}$`));
      assertEquals(links, named.map(([, listener]) => inode(listener)));
      for (const listener of listeners) assert(closesOnExec(listener.handle) && !blocks(listener.handle));
    }
    await until(() => countDescriptors() === before, "the descriptors are closed");
  },
});

Deno.test({
  name: "sockets that were passed here can be passed on in another order",
  ...withSystemd,
  fn: async () => {
    // This process has other things at 3 and 4, so a child swaps the two it was passed and starts another.
    using first = listen({ hostname: "127.0.0.1", port: 0 });
    using second = listen({ hostname: "127.0.0.1", port: 0 });
    const swap = new URL("../children/swap_passed.ts", import.meta.url).href;
    const args = [...RUN, "--allow-env", "--allow-run=/bin/sh", FFI_GRANT, swap];
    const output = await printed(Deno.execPath(), [["first", first], ["second", second]], args);
    const links = [second, first].map(({ handle }) => Deno.readLinkSync(`/proc/self/fd/${handle}`));
    assertEquals(output.trimEnd().split("\n"), ["second:first", ...links]);
  },
});

Deno.test({
  name: "a program has the environment it is given, beside this one's or alone",
  ...withSystemd,
  fn: async () => {
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    const env = { GIVEN: "1", LISTEN_FDS_FIRST_FD: "9" };
    const variables = async (clearEnv: boolean) => {
      const output = await printed("/usr/bin/env", [["web", listener]], [], { env, clearEnv });
      const names = [...output.matchAll(/^([A-Z_]+)=/gm)].map(([, name]) => name!);
      return names.filter((name) => name !== "PWD").toSorted();
    };
    assertEquals(await variables(true), ["GIVEN", "LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID"]);
    const all = await variables(false);
    for (const name of ["GIVEN", "LISTEN_FDNAMES", "PATH"]) assert(all.includes(name), `${name} is in ${all}`);
    assert(!all.includes("LISTEN_FDS_FIRST_FD"));
  },
});

Deno.test({
  name: "our consumer takes what our producer passes, and it accepts",
  ...withSystemd,
  fn: async () => {
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    const args = [...RUN, EXAMPLE_ENV_GRANT, FFI_GRANT, EXAMPLE];
    const child = spawnActivated(Deno.execPath(), [["web", listener]], {
      args,
      stdio: ["ignore", "ignore", "inherit"],
    });
    const exited = once(child, "exit");
    const { port } = listener.addr;
    listener.close();
    using conn = (await connect({ port })).toConn();
    assertEquals(
      await readText(conn, 1_000),
      `Hello from process ${child.pid}, on a listener passed by systemd\n`,
    );
    assertEquals((await within(20_000, exited))[0], 0);
  },
});

Deno.test({
  name: "libsystemd takes what our producer passes: systemd-socket-activate hands it on",
  ignore: !haveProgram("systemd-socket-activate"),
  fn: async () => {
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    const args = ["--fdname=web", Deno.execPath(), ...RUN, EXAMPLE_ENV_GRANT, FFI_GRANT, EXAMPLE];
    const child = spawnActivated("systemd-socket-activate", [["web", listener]], {
      args,
      stdio: ["ignore", "ignore", "pipe"],
    });
    const ended = within(20_000, Promise.all([text(child.stderr!), once(child, "exit")]));
    const { port } = listener.addr;
    listener.close();
    using conn = (await connect({ port })).toConn();
    const answer = await readText(conn, 1_000);
    const [log] = await ended;
    assertEquals(answer, `Hello from process ${child.pid}, on a listener passed by systemd\n`, log);
  },
});

Deno.test({
  name: "what cannot be passed is refused before anything is started",
  ...withSystemd,
  fn: () => {
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    for (const name of ["", "a:b", "a\nb", "ä", "a".repeat(256)]) {
      assertThrows(() => spawnActivated("true", [[name, listener]]), TypeError, "is not a valid name for systemd");
    }
    assertThrows(
      () => spawnActivated("true", []),
      RangeError,
      "Cannot pass sockets to true: there must be at least one",
    );
    listener.close();
    assertThrows(() => spawnActivated("true", [["web", listener]]), WinsockError, "WSAENOTSOCK");
  },
});

Deno.test({
  name: "elsewhere than on Linux, no sockets can be passed",
  ignore: !withSystemd.ignore,
  fn: () => {
    assertThrows(() => spawnActivated("true", []), Deno.errors.NotSupported, "Cannot pass sockets to true");
  },
});
