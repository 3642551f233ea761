/**
 * Makes `layouts.json` anew: `deno run -A tests/golden/generate.ts`. Needs Debian's `gcc-mingw-w64-x86-64` and the
 * Windows lane.
 *
 * The names of the constants are ours, their values the compiler's.
 */
import * as constants from "../../structs/constants.ts";
import { WSA_ERRORS } from "../../structs/constants.ts";
import { MAX_PROTOCOL_CHAIN, WSAPROTOCOL_LEN } from "../../structs/wsaprotocol_info.ts";
import { windowsLane } from "../../tools/windows.ts";

const FOLDER = new URL(".", import.meta.url).pathname;
const BUILD = new URL("../../.cache/golden/", import.meta.url).pathname;

await Deno.mkdir(BUILD, { recursive: true });
const names = [
  ...Object.values(constants).flatMap((table) => Object.keys(table)),
  ...Object.keys(WSA_ERRORS),
  ...Object.keys({ MAX_PROTOCOL_CHAIN, WSAPROTOCOL_LEN }),
];
// The protocols are enumerators, everything else is a macro; one that an older header lacks is left out.
await Deno.writeTextFile(
  `${BUILD}constants.h`,
  names.map((name) => name.startsWith("IPPROTO_") ? `NUMBER(${name})\n` : `#ifdef ${name}\nNUMBER(${name})\n#endif\n`)
    .join(""),
);
await run("x86_64-w64-mingw32-gcc", [
  "-D_WIN32_WINNT=0x0A00",
  `-I${BUILD}`,
  "-o",
  `${BUILD}layouts.exe`,
  `${FOLDER}layouts.c`,
]);
const lane = await windowsLane();
const script = `${BUILD}run.ts`;
await Deno.writeTextFile(
  script,
  `await new Deno.Command("Z:${BUILD.replaceAll("/", "\\\\")}layouts.exe", { stdout: "inherit" }).output();`,
);
const { stdout } = await lane(["run", "-A", script]).output();
await Deno.writeFile(`${FOLDER}layouts.json`, stdout);
await run(Deno.execPath(), ["fmt", "--quiet", `${FOLDER}layouts.json`]);

async function run(command: string, args: string[]): Promise<void> {
  const { success } = await new Deno.Command(command, { args }).spawn().status;
  if (!success) Deno.exit(1);
}
