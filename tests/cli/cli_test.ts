import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { listen } from "@winsock/handoff";
import { main } from "@winsock/handoff/cli";
import { findBrokenHandoffs } from "@winsock/handoff/spi";
import { WSAPROTOCOL_INFOW, XP1 } from "@winsock/handoff/structs";
import { catalog } from "../../cli/catalog.ts";
import { doctor } from "../../cli/doctor.ts";
import type { Terminal } from "../../cli/terminal.ts";
import { RUN } from "../kit/process.ts";
import blobs from "../golden/blobs.json" with { type: "json" };

const W = Uint8Array.fromHex(blobs.WSAPROTOCOL_INFOW);
const A = Uint8Array.fromHex(blobs.WSAPROTOCOL_INFOA);

interface Result {
  code: number;
  out: string[];
  err: string[];
}

async function run(args: string[], bytes = W, shape: Partial<Terminal> = {}): Promise<Result> {
  const out: string[] = [];
  const err: string[] = [];
  const terminal: Terminal = {
    read: () => Promise.resolve(bytes),
    print: (line) => void out.push(...line.split("\n")),
    printError: (line) => void err.push(line),
    columns: 80,
    color: false,
    ...shape,
  };
  return { code: await main(args, terminal), out, err };
}

function changed(offset: number, value: number): Uint8Array<ArrayBuffer> {
  const bytes = W.slice();
  new DataView(bytes.buffer).setInt32(offset, value, true);
  return bytes;
}

Deno.test("inspect shows every field with its bytes, value and names, within the columns there are", async () => {
  for (const columns of [80, 120]) {
    const { code, out, err } = await run(["inspect", "blob"], W, { columns });
    assertEquals([code, err], [0, []]);
    assertEquals(out[0], "WSAPROTOCOL_INFOW, 628 bytes");
    for (const { name } of WSAPROTOCOL_INFOW.fields) assert(out.some((line) => line.includes(` ${name} `)), name);
    assertMatch(out.find((line) => line.includes("iSocketType"))!, /^0058 {2}01 00 00 00 .* 1 {2}SOCK_STREAM$/);
    assertStringIncludes(out.join("\n"), "XP1_IFS_HANDLES");
    assertStringIncludes(out.join("\n"), '"TCP/IP"');
    assertEquals(out.filter((line) => line.length > columns), []);
  }
});

Deno.test("inspect reads the A form too", async () => {
  const { code, out } = await run(["inspect", "-"], A);
  assertEquals([code, out[0]], [0, "WSAPROTOCOL_INFOA, 372 bytes"]);
});

Deno.test("inspect says what is wrong with a damaged blob, and still shows the rest", async () => {
  const wrongs: [Uint8Array<ArrayBuffer>, string][] = [
    [W.slice(1), "blob: expected 628 bytes (WSAPROTOCOL_INFOW) or 372 (WSAPROTOCOL_INFOA), got 627"],
    [new Uint8Array(0), "got 0"],
    [changed(40, 8), "blob: ProtocolChain at offset 40: ChainLen 8 is not between 0 and 7"],
    [changed(76, 999), "blob: iAddressFamily at offset 76: 999 is not an address family"],
    [changed(88, 77), "blob: iSocketType at offset 88: 77 is not a socket type"],
    [new Uint8Array(628), "blob: ProviderId at offset 20: a provider cannot have the GUID of zeros"],
  ];
  for (const [bytes, problem] of wrongs) {
    const { code, out, err } = await run(["inspect", "blob"], bytes);
    assertEquals(code, 1);
    assert(err.some((line) => line.includes(problem)), `${err}`);
    if (bytes.byteLength === 628) assert(out.some((line) => line.includes("dwMessageSize")));
  }
});

Deno.test("inspect --json is for programs", async () => {
  const { code, out } = await run(["inspect", "--json", "blob"]);
  const parsed = JSON.parse(out.join("\n"));
  assertEquals([code, parsed.struct, parsed.size, parsed.fields.length], [0, "WSAPROTOCOL_INFOW", 628, 20]);
  assertEquals(parsed.fields.map(({ bytes }: { bytes: string }) => bytes).join(""), W.toHex());
  const protocol = parsed.fields.find(({ name }: { name: string }) => name === "iProtocol");
  assertEquals([protocol.value, protocol.names], [6, ["IPPROTO_TCP"]]);
  const damaged = await run(["inspect", "--json", "blob"], changed(40, -1));
  assertEquals(damaged.code, 1);
  assertStringIncludes(JSON.parse(damaged.out.join("\n")).fields[7].problem, "ChainLen -1");
});

Deno.test("bits without a name are told, and what cannot be seen is written out", async () => {
  const bytes = changed(0, 0x40000002);
  bytes.set([0x07, 0, 0x00, 0xd8], 116);
  const { out } = await run(["inspect", "blob"], bytes, { columns: 120 });
  assertStringIncludes(out.join("\n"), "0x40000000 without a name");
  assertStringIncludes(out.join("\n"), '"\\u0007\\ud800');
});

Deno.test("colours are used only where they are wanted", async () => {
  const plain = await run(["inspect", "blob"]);
  const color = await run(["inspect", "blob"], W, { color: true });
  const escape = String.fromCharCode(27);
  assert(!plain.out.join("").includes(escape) && color.out.join("").includes(escape));
  // deno-lint-ignore no-control-regex -- that is what is looked for
  assertEquals(color.out.map((line) => line.replace(/\u001b\[\d+m/g, "").trimEnd()), plain.out);
});

Deno.test("catalog lists the system's entries, and draws chains", async () => {
  const { code, out } = await run(["catalog"]);
  assertEquals(code, 0);
  assertMatch(out[0]!, /^ID +FAMILY +TYPE +PROTOCOL +KIND +NAME$/);
  assert(out.some((line) => /^\d+ +INET +STREAM +TCP +base/.test(line)), out.join("\n"));
  const base = WSAPROTOCOL_INFOW.decode(W);
  const lines: string[] = [];
  const terminal = { print: (line: string) => void lines.push(line), color: false } as Terminal;
  catalog(terminal, false, [
    { ...base, ProtocolChain: { ChainLen: 3, ChainEntries: [1003, 1002, 1001, 0, 0, 0, 0] } },
    { ...base, ProtocolChain: { ChainLen: 0, ChainEntries: [0, 0, 0, 0, 0, 0, 0] }, dwServiceFlags1: 0 },
  ]);
  assertStringIncludes(lines[1]!, "chain of 3: 1003 → 1002 → 1001");
  assertStringIncludes(lines[2]!, "layer, not IFS");
  const json = JSON.parse((await run(["catalog", "--json"])).out.join("\n"));
  assertEquals(json.length, out.length - 1);
});

/** A catalogue in which TCP over IPv4 goes through a layer. */
function layered(layerFlags: number): WSAPROTOCOL_INFOW[] {
  const base = { ...WSAPROTOCOL_INFOW.decode(W), dwCatalogEntryId: 1001, szProtocol: "TCP/IP" };
  const layer = {
    ...base,
    dwCatalogEntryId: 1002,
    dwServiceFlags1: layerFlags,
    ProtocolChain: { ChainLen: 0, ChainEntries: [0, 0, 0, 0, 0, 0, 0] },
    szProtocol: "Old filter",
  };
  const chain = {
    ...layer,
    dwCatalogEntryId: 1003,
    dwServiceFlags1: layerFlags,
    ProtocolChain: { ChainLen: 2, ChainEntries: [1002, 1001, 0, 0, 0, 0, 0] },
    szProtocol: "Old filter over TCP/IP",
  };
  return [layer, chain, base];
}

const BROKEN = 'Sockets of "Old filter over TCP/IP" (entry 1003) cannot be handed off: they go through "Old filter" ' +
  "(entry 1002) in C:\\filter.dll, whose descriptors are not handles of the system (no XP1_IFS_HANDLES)";

Deno.test("catalog names the non-IFS layer that breaks hand-offs, and where it is", () => {
  const lines: string[] = [];
  const terminal = { print: (line: string) => void lines.push(line), color: false } as Terminal;
  catalog(terminal, false, layered(0), () => "C:\\filter.dll");
  assertEquals(lines.at(-1), BROKEN);
  lines.length = 0;
  catalog(terminal, false, layered(XP1.XP1_IFS_HANDLES), () => "C:\\filter.dll");
  assertEquals(lines.length, 4);
  assertEquals(
    findBrokenHandoffs([layered(0)[2]!, ...layered(0).slice(0, 2)]),
    [],
    "the first entry is the one in use",
  );
  const alone = layered(0)[1]!;
  assertEquals(findBrokenHandoffs([alone]), [{ entry: alone, layer: alone }], "a chain whose members are not known");
});

Deno.test("doctor examines this system, and finds nothing", async () => {
  const { code, out, err } = await run(["doctor"]);
  assertEquals([code, out.length, err], [0, 4, []]);
  for (const line of out) assertMatch(line, /^ok {5}(library|sharing|layers|handles) /);
  const json = JSON.parse((await run(["doctor", "--json"])).out.join("\n"));
  assertEquals(json.map(({ ok }: { ok: boolean }) => ok), [true, true, true, true]);
});

Deno.test("doctor says what breaks hand-offs on a system where they cannot work", async () => {
  const lines: string[] = [];
  const terminal = { print: (line: string) => void lines.push(line), color: false } as Terminal;
  const code = await doctor(terminal, false, {
    entries: () => layered(0),
    pathOf: () => "C:\\filter.dll",
    share: () => Promise.reject(new Error("Cannot duplicate socket 308")),
    handles: () => ({ s: 1n, base: 308n }),
  });
  assertEquals(code, 1);
  assertEquals(lines.slice(1), [
    "WRONG  sharing   Cannot duplicate socket 308",
    `WRONG  layers    ${BROKEN}`,
    "WRONG  handles   Socket 1 is not the base provider's handle 308: a non-IFS layer is between them",
  ]);
});

Deno.test("errors explains a code, a name, and a name without its prefix", async () => {
  for (const query of ["10038", "WSAENOTSOCK", "enotsock"]) {
    assertEquals((await run(["errors", query])).out, ["WSAENOTSOCK (10038)  The descriptor is not a socket"]);
  }
  assertEquals(JSON.parse((await run(["errors", "--json", "10022"])).out[0]!).name, "WSAEINVAL");
  assertEquals(await run(["errors", "12345"]), { code: 1, out: [], err: ['"12345" is not a Winsock error'] });
});

Deno.test("wrong commands are exit code 2, help and version 0", async () => {
  for (
    const args of [[], ["frob"], ["inspect"], ["inspect", "a", "b"], ["catalog", "x"], ["doctor", "x"], ["errors"], [
      "--frob",
    ]]
  ) {
    const { code, out, err } = await run(args);
    assertEquals([code, out.length, err.length], [2, 0, 1], args.join(" "));
  }
  assertStringIncludes((await run(["--help"])).out.join("\n"), "handoff inspect FILE|-");
  assertMatch((await run(["--version"])).out[0]!, /^\d+\.\d+\.\d+/);
});

Deno.test("help fits into a terminal of 80 columns", async () => {
  for (const args of [["--help"], ["serve", "--help"]]) {
    const lines = (await run(args)).out.flatMap((text) => text.split("\n"));
    assertEquals(lines.filter((line) => line.length > 80), []);
  }
});

Deno.test("the command reads a pipe, and needs no permission for it", async () => {
  const cli = new URL("../../cli/mod.ts", import.meta.url).href;
  const child = new Deno.Command(Deno.execPath(), {
    args: [...RUN, cli, "inspect", "-"],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(W.subarray(0, 300));
  await writer.write(W.subarray(300));
  await writer.close();
  const { code, stdout, stderr } = await child.output();
  const text = new TextDecoder().decode(stdout);
  assertEquals(code, 0, new TextDecoder().decode(stderr));
  assertStringIncludes(text, "WSAPROTOCOL_INFOW, 628 bytes");
  assert(!text.includes("\u001b"));
});

Deno.test("upgrade names the control file where it leads to nobody, and says why", async () => {
  const file = await Deno.makeTempFile();
  try {
    const empty = await run(["upgrade", file]);
    assertEquals([empty.code, empty.err], [1, [`handoff: Cannot read control file "${file}": it is empty`]]);
    const listener = listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr;
    listener.close();
    await Deno.writeTextFile(file, JSON.stringify({ processId: 1, port, secret: "secret" }));
    const { code, err } = await run(["upgrade", file]);
    assertEquals([code, err.length], [1, 1]);
    assertStringIncludes(err[0]!, `Cannot reach the server of "${file}"`);
    assertStringIncludes(err[0]!, "it has ended, and left the file behind");
  } finally {
    await Deno.remove(file);
  }
  assertStringIncludes((await run(["upgrade", file])).err[0]!, file);
});
