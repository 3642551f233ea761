// Decisions that one of two processes makes, by each means there is.
//
// Words of shared memory are tried where the system has them, Linux. On macOS, which has no lock of its own that processes
// share, decisions are names; the same tests run there. That a decision of a process that is stopped can be made, as of one
// that was killed, `handoff/processes_test.ts` shows.
import { assert, assertEquals, assertThrows } from "@std/assert";
import { LIBRARY_PATHS, WinsockError } from "@winsock/handoff";
import { DECISION_SLOTS, DecisionMeans, type SourceDecisions, type TargetDecisions } from "../../ffi/decisions.ts";
import { libc, unixSystem, useUnixSystem } from "../../ffi/unix/libc.ts";
import { newDecisions, openDecisions } from "../../ffi/unix/decisions.ts";
import { closeOnExec, fcntl, keepOnExec, newPipe } from "../../ffi/unix/descriptors.ts";
import { SourceEvents, TargetEvents } from "../../ffi/windows/decisions.ts";
import { countDescriptors } from "../kit/descriptors.ts";
import { assertNothingLeaks } from "../kit/leaks.ts";
import { needs } from "../kit/needs.ts";
import { endChild, FFI_GRANT, lines, RUN, within } from "../kit/process.ts";

/** A means, and how both sides open a table of it in one process. */
interface Means {
  readonly name: string;
  readonly ignore: boolean;
  /** How often two processes decide all slots at once. What is quick is tried more often, to meet in the same moment. */
  readonly rounds: number;
  /** A table for a process. */
  make(processId: number): SourceDecisions;
  /** The target's side of it, in this process. */
  open(source: SourceDecisions): TargetDecisions;
}

const onWindows = Deno.build.os === "windows";
const hasWords = !onWindows && unixSystem().sharedLocks;

/** A table of names, also where there are words. */
function makeNames(): SourceDecisions {
  const system = unixSystem();
  useUnixSystem({ ...system, sharedLocks: false });
  try {
    return newDecisions();
  } finally {
    useUnixSystem(system);
  }
}

function openHere({ means, descriptor }: SourceDecisions): TargetDecisions {
  return openDecisions(means, BigInt(fcntl(descriptor!, unixSystem().F_DUPFD_CLOEXEC, 0)));
}

const MEANS: Means[] = [
  { name: "words", ignore: !hasWords, rounds: 800, make: newDecisions, open: openHere },
  { name: "names", ignore: onWindows, rounds: 160, make: makeNames, open: openHere },
  {
    name: "events",
    ignore: !onWindows,
    rounds: 160,
    make: (processId) => new SourceEvents(processId),
    open: () => new TargetEvents(Deno.pid),
  },
];

for (const { name, ignore, rounds, make, open } of MEANS) {
  Deno.test(`${name}: whoever is first decides, once, until the source opens the decision again`, { ignore }, () => {
    const source = make(Deno.pid);
    const handles = Array.from({ length: DECISION_SLOTS }, (_, slot) => source.open(slot));
    const target = open(source);
    for (const [slot, handle] of handles.entries()) {
      for (let round = 0; round < 3; round++) {
        if (round > 0) assertEquals(source.open(slot), handle, "a slot keeps its handle");
        const first = (slot + round) % 2 === 0;
        assertEquals(first ? source.decide(slot) : target.decide(slot, handle), true);
        assertEquals([source.decide(slot), target.decide(slot, handle)], [false, false]);
        assertEquals([source.decide(slot), target.decide(slot, handle)], [false, false], "it never changes again");
      }
    }
    source.open(0);
    source.open(5);
    assertEquals([target.decide(0, handles[0]!), source.decide(5)], [true, true]);
    target.close();
    source.close();
  });

  Deno.test(
    `${name}: of 10 000 decisions and more that two processes make at once each has one winner`,
    { ignore },
    async () => {
      const child = spawnDecider(() => make(Deno.pid));
      const line = lines(child.process);
      const stdin = child.process.stdin.getWriter();
      // On Windows the target's process must be there before a table is made for it.
      const table = child.table ?? make(child.process.pid);
      const won = { source: 0, target: 0 };
      try {
        assertEquals(await line(), "ready");
        const slots = Array.from({ length: DECISION_SLOTS - 1 }, (_, index) => index + 1);
        const gate = [0, String(table.open(0))];
        table.decide(0);
        let round = 0;
        // On a machine with one free processor one side may be first for long.
        for (; round < rounds || won.source === 0 || won.target === 0; round++) {
          const opened = slots.map((slot) => [slot, String(table.open(slot))]);
          const [waits, answer] = [line(), line()];
          await stdin.write(new TextEncoder().encode(JSON.stringify([gate, ...opened]) + "\n"));
          assertEquals(await waits, "waits");
          const mine = new Set<number>();
          // Both begin now.
          table.open(0);
          const until = performance.now() + (round % 16) * 0.05;
          if (round % 2 === 1) { while (performance.now() < until); }
          // In the same order they meet at every slot; else each is first somewhere.
          for (const slot of round % 2 === 0 ? slots : slots.toReversed()) if (table.decide(slot)) mine.add(slot);
          const theirs = JSON.parse(await answer ?? "[]") as number[];
          won.source += mine.size;
          won.target += theirs.length;
          assertEquals(theirs.filter((slot) => mine.has(slot)), [], "decided by both");
          assertEquals(mine.size + theirs.length, slots.length, "decided by nobody");
        }
        assertEquals(won.source + won.target, round * slots.length);
      } finally {
        await stdin.close().catch(() => {});
        await endChild(child.process);
        table.close();
      }
    },
  );

  Deno.test(`${name}: a table leaves nothing open, and no name`, { ignore }, async () => {
    await assertNothingLeaks(() => {
      const source = make(Deno.pid);
      const handle = source.open(3);
      const target = open(source);
      target.decide(3, handle);
      target.close();
      source.close();
    });
    const source = make(Deno.pid);
    const directory = directoryOf(source);
    source.close();
    if (directory !== undefined) assertThrows(() => Deno.statSync(directory), Deno.errors.NotFound);
  });
}

/** Where a table of names is; nothing for one that is made of something else. */
function directoryOf({ means, descriptor }: SourceDecisions): string | undefined {
  if (Deno.build.os !== "linux" || means !== DecisionMeans.NAMES) return undefined;
  return Deno.readLinkSync(`/proc/self/fd/${descriptor}`);
}

/** Another process, with ffi access to the system's library and nothing else; on Unix it inherits a table. */
function spawnDecider(make: () => SourceDecisions): { process: Deno.ChildProcess; table?: SourceDecisions } {
  const spawn = (...args: string[]) =>
    new Deno.Command(Deno.execPath(), {
      args: [...RUN, FFI_GRANT, new URL("../children/decider.ts", import.meta.url).href, ...args],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn() as Deno.ChildProcess;
  if (onWindows) return { process: spawn() };
  const table = make();
  keepOnExec(table.descriptor!);
  try {
    return { process: spawn(String(table.means), String(table.descriptor)), table };
  } finally {
    closeOnExec(table.descriptor!);
  }
}

const words = { ignore: !hasWords };

/** What a process can do to a file that it has a descriptor of. */
function fileCalls() {
  const library = Deno.dlopen(LIBRARY_PATHS[0]!, {
    ftruncate: { parameters: ["usize", "i64"], result: "i32" },
    fallocate: { parameters: ["usize", "i32", "i64", "i64"], result: "i32" },
    memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
    pwrite: { parameters: ["usize", "buffer", "usize", "i64"], result: "i64" },
  });
  return { ...library.symbols, [Symbol.dispose]: () => library.close() };
}

const TABLE_SIZE = 8192n;
const KEEP_SIZE = 1;
const PUNCH_HOLE = 2;
const F_ADD_SEALS = 1033;

Deno.test("words: whoever has the memory can neither shrink nor grow it, nor unseal it", words, () => {
  using calls = fileCalls();
  const source = newDecisions();
  for (const size of [0n, TABLE_SIZE - 1n, TABLE_SIZE + 1n]) {
    assertEquals(calls.ftruncate(source.descriptor!, size), -1, `it has ${size} bytes`);
  }
  assertEquals(calls.fallocate(source.descriptor!, 0, TABLE_SIZE, 1n), -1, "it grows");
  assertEquals(fcntl(source.descriptor!, F_ADD_SEALS, 0), -1, "its seals change");
  source.open(1);
  assertEquals(source.decide(1), true);
  source.close();
});

Deno.test("words: scribbled bytes and holes change decisions, and nothing else", words, () => {
  using calls = fileCalls();
  const source = newDecisions();
  const target = openHere(source);
  for (let round = 0; round < 200; round++) {
    source.open(round % DECISION_SLOTS);
    if (round % 3 === 0) {
      calls.fallocate(source.descriptor!, PUNCH_HOLE | KEEP_SIZE, 0n, TABLE_SIZE);
    } else {
      const bytes = crypto.getRandomValues(new Uint8Array(Number(TABLE_SIZE)));
      calls.pwrite(source.descriptor!, bytes, TABLE_SIZE, 0n);
    }
    for (let slot = 0; slot < DECISION_SLOTS; slot++) {
      assertEquals([typeof source.decide(slot), typeof target.decide(slot, 0n)], ["boolean", "boolean"]);
      assertEquals([source.decide(slot), target.decide(slot, 0n)], [false, false], "one attempt decides");
    }
  }
  target.close();
  source.open(7);
  assertEquals([source.decide(7), source.decide(7)], [true, false]);
  source.close();
});

Deno.test("words: memory that is not sealed, not of the size of a table, or not memory is refused", words, () => {
  using calls = fileCalls();
  const memory = (size: bigint, seals: number) => {
    const fd = BigInt(calls.memfd_create(new TextEncoder().encode("test\0"), 3));
    calls.ftruncate(fd, size);
    if (seals !== 0) fcntl(fd, F_ADD_SEALS, seals);
    return fd;
  };
  const [readable, writable] = newPipe("test");
  const refused: Record<string, () => bigint> = {
    "not sealed": () => memory(TABLE_SIZE, 0),
    "not sealed against shrinking": () => memory(TABLE_SIZE, 1 | 4),
    "not sealed for good": () => memory(TABLE_SIZE, 2 | 4),
    "too short": () => memory(TABLE_SIZE - 1n, 7),
    "empty": () => memory(0n, 7),
    "too long": () => memory(2n * TABLE_SIZE, 7),
    "a pipe": () => BigInt(fcntl(readable, unixSystem().F_DUPFD_CLOEXEC, 0)),
  };
  const before = countDescriptors();
  for (const make of Object.values(refused)) {
    assertThrows(() => openDecisions(DecisionMeans.WORDS, make()), RangeError, "Cannot open a table of decisions");
  }
  assertThrows(
    () => openDecisions(9, memory(TABLE_SIZE, 7)),
    RangeError,
    "Cannot open a table of decisions: means 9 is unknown",
  );
  assertEquals(countDescriptors(), before, "what is refused is closed");
  for (const fd of [readable, writable]) libc().close(fd);
});

Deno.test("words: a slot that is not one of the table is refused before any memory is touched", words, () => {
  const source = newDecisions();
  for (const slot of [-1, DECISION_SLOTS, 1e9, NaN]) {
    assertThrows(() => source.decide(slot), RangeError, "Invalid `slot`: must be from 0 to 63, got");
    assertThrows(() => source.open(slot), RangeError, "Invalid `slot`: must be from 0 to 63, got");
  }
  source.close();
  assertEquals(source.decide(0), false, "a table that was given up decides nothing");
});

Deno.test(
  "names: what a target puts in the way ends decisions, and the source can give the table up",
  needs("the unix provider"),
  () => {
    const source = makeNames();
    const directory = directoryOf(source);
    if (directory === undefined) return source.close();
    Deno.mkdirSync(`${directory}/5/inside`, { recursive: true });
    Deno.writeTextFileSync(`${directory}/6`, "a file");
    Deno.symlinkSync("/", `${directory}/7`);
    for (let count = 0; count < 1_000; count++) Deno.mkdirSync(`${directory}/more-${count}`);
    for (const slot of [5, 6, 7]) {
      assertThrows(() => source.open(slot), WinsockError);
      assertEquals(source.decide(slot), false);
    }
    source.open(8);
    assertEquals([source.decide(8), source.decide(8)], [true, false]);
    source.close();
    Deno.removeSync(directory, { recursive: true });
  },
);

Deno.test("events: the target can wait for its handles, and neither set them nor use others as decisions", {
  ignore: !onWindows,
}, () => {
  const source = new SourceEvents(Deno.pid);
  const handle = source.open(0);
  const target = new TargetEvents(Deno.pid);
  const kernel32 = Deno.dlopen("C:\\Windows\\System32\\kernel32.dll", {
    SetEvent: { parameters: ["usize"], result: "i32" },
    ResetEvent: { parameters: ["usize"], result: "i32" },
  });
  assertEquals([kernel32.symbols.SetEvent(handle), kernel32.symbols.ResetEvent(handle)], [0, 0], "it has the right to");
  assertEquals(target.decide(0, handle), true);
  assertEquals(kernel32.symbols.SetEvent(handle), 0);
  assertEquals([source.decide(0), target.decide(0, handle)], [false, false]);
  assertThrows(() => target.decide(0, 0xdeadbeecn), RangeError);
  kernel32.close();
  target.close();
  source.close();
});

Deno.test("events: a process that is not there has no table", { ignore: !onWindows }, () => {
  assertThrows(() => new SourceEvents(0x7ffffff0), WinsockError);
});

Deno.test("a decision that waits for a process that was killed can still be made", async () => {
  const child = spawnDecider(() => newDecisions());
  const table = child.table ?? new SourceEvents(child.process.pid);
  try {
    const line = lines(child.process);
    assertEquals(await line(), "ready");
    for (let slot = 0; slot < 4; slot++) table.open(slot);
    assert(table.decide(0));
    child.process.kill("SIGKILL");
    await within(10_000, child.process.status);
    assertEquals([table.decide(0), table.decide(1), table.decide(2), table.decide(2)], [false, true, true, false]);
  } finally {
    await endChild(child.process);
    table.close();
  }
});
