// Linux in macOS' way: the tests of sharing and handing over once more.
import { assert } from "@std/assert";
import { withNative } from "../kit/native.ts";
import { within } from "../kit/process.ts";

const PRELOAD = `--preload=${new URL("../kit/darwin_style.ts", import.meta.url).href}`;
const inDarwinStyle = { ignore: withNative.ignore || Deno.build.os !== "linux" };

/** Runs the tests of files in a process of their own; returns the line that sums them up, or all it printed. */
async function runTests(files: readonly string[]): Promise<string> {
  // A thousand hand-offs leak no more here than elsewhere, and take long.
  const args = ["test", "--quiet", "--allow-all", "--no-check", "--cached-only", "--filter=/^[^1]/", PRELOAD];
  const paths = files.map((file) => new URL(`../${file}`, import.meta.url).href);
  const command = new Deno.Command(Deno.execPath(), { args: [...args, ...paths], env: { NO_COLOR: "1" } });
  const { stdout, stderr } = await command.output();
  const output = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  return /^ok \| .*/m.exec(output)?.[0] ?? output;
}

/** Removes rendezvous of sources that were killed: nobody listens there any more. Others are not this test's. */
async function removeLeftBehind(): Promise<void> {
  for (const { name } of Deno.readDirSync("/tmp")) {
    if (!name.startsWith("winsock-handoff-")) continue;
    const files = await Array.fromAsync(Deno.readDir(`/tmp/${name}`)).catch(() => []);
    for (const socket of files.filter((file) => !file.isFile && !file.isDirectory)) {
      const refused = await Deno.connect({ transport: "unix", path: `/tmp/${name}/${socket.name}` }).then(
        (conn) => conn.close(),
        (error) => error instanceof Deno.errors.ConnectionRefused,
      );
      if (refused === true) await Deno.remove(`/tmp/${name}`, { recursive: true }).catch(() => {});
    }
  }
}

Deno.test("sharing and handing over work in macOS' way", inDarwinStyle, async () => {
  const groups: readonly [files: readonly string[], least: number][] = [
    [["spi/contract_test.ts", "spi/provider_test.ts", "spi/rogue_test.ts"], 40],
    [["handoff/handoff_test.ts", "handoff/protocol_test.ts"], 25],
    [["sockets/socket_test.ts", "sockets/local_test.ts", "sockets/datagram_test.ts"], 40],
  ];
  const summaries = await within(60_000, Promise.all(groups.map(([files]) => runTests(files))));
  await removeLeftBehind();
  for (const [index, summary] of summaries.entries()) {
    assert(Number(/^ok \| (\d+) passed/.exec(summary)?.[1] ?? 0) >= groups[index]![1], summary);
  }
});
