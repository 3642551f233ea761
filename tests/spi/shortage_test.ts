// Sources and targets of the unix provider that have no room for another descriptor.
import { assert, assertEquals, assertThrows } from "@std/assert";
import { WinsockError } from "@winsock/handoff";
import { UnixProvider } from "@winsock/handoff/spi";
import { encodeClaim } from "../../spi/unix/claims.ts";
import { decodeBlob } from "../../spi/unix/provider.ts";
import { Attacker, withAttackers } from "../kit/attacker.ts";
import { connection } from "../kit/connections.ts";
import { Shortage, withLimits } from "../kit/descriptor_limit.ts";
import { countDescriptors, settledDescriptors } from "../kit/descriptors.ts";
import { until, within } from "../kit/process.ts";
import { moduleUrl, runCode } from "../kit/run.ts";

/** More than anything here needs. */
const MAX_ROOM = 10;

Deno.test("a source answers claims with no descriptor left, again and again", withAttackers, async () => {
  using pair = await connection();
  using target = new Attacker(false);
  const source = new UnixProvider();
  const prepare = () => {
    const { rendezvous, claim } = decodeBlob(source.duplicateSocket(pair.server.handle, target.processId));
    return async () => {
      assertEquals(await target.tell("connect", rendezvous), 0);
      await target.tell("send", encodeClaim(claim));
      return await target.tell("receive");
    };
  };
  assertEquals(await prepare()(), 1);
  const [before] = await settledDescriptors(Deno.pid);
  for (let room = 0; room < 4; room++) {
    const claims = Array.from({ length: 5 }, prepare);
    using _ = new Shortage(room);
    for (const take of claims) assertEquals(await take(), 1, `with room for ${room}`);
  }
  await until(() => countDescriptors() <= before!, "nothing is kept");
});

Deno.test("a process that says nothing does not keep the source's last descriptors", withAttackers, async () => {
  using pair = await connection();
  using target = new Attacker(false);
  using silent = new Attacker(false);
  const source = new UnixProvider();
  const { rendezvous, claim } = decodeBlob(source.duplicateSocket(pair.server.handle, target.processId));
  source.duplicateSocket(pair.server.handle, silent.processId);
  using _ = new Shortage(0);
  for (let count = 0; count < 5; count++) assertEquals(await silent.tell("connectMore", rendezvous), 0);
  assertEquals(await target.tell("connect", rendezvous), 0);
  await target.tell("send", encodeClaim(claim));
  assertEquals(await target.tell("receive"), 1);
});

Deno.test("a target without room does not use up the blob", withLimits, async () => {
  using pair = await connection();
  const [source, target] = [new UnixProvider(), new UnixProvider()];
  target.closeSocket(await target.socket(source.duplicateSocket(pair.server.handle, Deno.pid)));
  const [before] = await settledDescriptors(Deno.pid);
  let failures = 0;
  for (let room = 0; room < MAX_ROOM; room++) {
    const blob = source.duplicateSocket(pair.server.handle, Deno.pid);
    let s: bigint | undefined;
    {
      using _ = new Shortage(room);
      try {
        s = await within(10_000, target.socket(blob));
      } catch (error) {
        assert(error instanceof WinsockError);
        assertEquals(error.codeName, "WSAEMFILE");
        failures++;
      }
    }
    target.closeSocket(s ?? await within(10_000, target.socket(blob)));
  }
  assert(failures >= 2 && failures < MAX_ROOM / 2, `${failures} failed`);
  await until(() => countDescriptors() <= before!, "nothing is kept");
});

Deno.test("a source without room duplicates nothing, and loses nothing", withLimits, async () => {
  using pair = await connection();
  const source = new UnixProvider();
  source.withdraw(source.duplicateSocket(pair.server.handle, Deno.pid));
  const [before] = await settledDescriptors(Deno.pid);
  for (let room = 0; room < MAX_ROOM; room++) {
    {
      using _ = new Shortage(room);
      if (room < 2) {
        const error = assertThrows(() => source.duplicateSocket(pair.server.handle, Deno.pid), WinsockError);
        assertEquals(error.codeName, "WSAEMFILE");
      } else {
        source.withdraw(source.duplicateSocket(pair.server.handle, Deno.pid));
      }
    }
    source.withdraw(source.duplicateSocket(pair.server.handle, Deno.pid));
  }
  assertEquals(countDescriptors(), before);
});

Deno.test("the first duplicate of a process without room fails, and the next works", withLimits, async () => {
  const code = (room: number) => `
    import { listen } from ${moduleUrl("mod.ts")};
    import { UnixProvider } from ${moduleUrl("spi/mod.ts")};
    import { Shortage } from ${moduleUrl("tests/kit/descriptor_limit.ts")};
    import { countDescriptors } from ${moduleUrl("tests/kit/descriptors.ts")};
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    await new Promise((resolve) => setTimeout(resolve, 600));
    const source = new UnixProvider();
    const counts = [];
    for (let attempt = 0; attempt < 9; attempt++) {
      using _ = new Shortage(${room});
      try {
        source.withdraw(source.duplicateSocket(listener.handle, Deno.pid));
        if (attempt === 0) console.log("worked");
      } catch (error) {
        if (attempt === 0) console.log(error.codeName ?? error);
      }
      _[Symbol.dispose]();
      counts.push(countDescriptors());
    }
    // The poller, the rendezvous and its reserve come one after the other, and are there to stay.
    console.log(counts[8] - counts[5]);
    const target = new UnixProvider();
    target.closeSocket(await target.socket(source.duplicateSocket(listener.handle, Deno.pid)));
    console.log("opened");`;
  const rooms = Array.from({ length: MAX_ROOM }, (_, room) => room);
  const outputs = await within(60_000, Promise.all(rooms.map((room) => runCode(code(room), "--allow-all"))));
  const firsts = outputs.map((output) => output.split("\n")[0]);
  assertEquals(firsts[0], "WSAEMFILE");
  assertEquals(firsts.at(-1), "worked");
  for (const [room, output] of outputs.entries()) {
    const [first, more, last] = output.split("\n");
    assert(first === "WSAEMFILE" || first === "worked", output);
    assertEquals(more, "0", `with room for ${room}`);
    assertEquals(last, "opened", output);
  }
});
