/**
 * What strangers at a rendezvous can do: whether they get what is not for them, and what a flood of them costs those who
 * something is for, beside processes that do as much to sockets of their own.
 *
 * @module
 */
import { UnixProvider } from "@winsock/handoff/spi";
import { unixSystem, useUnixSystem } from "../../ffi/unix/libc.ts";
import { encodeClaim } from "../../spi/unix/claims.ts";
import { decodeBlob } from "../../spi/unix/provider.ts";
import { Attacker, startWithId } from "../kit/attacker.ts";
import { connection } from "../kit/connections.ts";

/** What the strangers do. */
export type Attack = "flood" | "search" | "floodOwn";

/** What was seen in one round. */
export interface Round {
  readonly attack: Attack;
  /** Duplicates that were opened, a second. */
  readonly claims: number;
  /** The longest time for which the event loop stood still, in milliseconds. */
  readonly still: number;
  /** Connections of the strangers, a second. */
  readonly connections: number;
}

/** How much of it. */
export interface FloodOptions {
  readonly strangers: number;
  readonly attacks: readonly Attack[];
  readonly rounds: number;
  /** How long a round takes. */
  readonly milliseconds: number;
  readonly log?: (line: string) => void;
}

const IN_FLIGHT = 8;

/** The longest time for which the event loop stands still while something is done. */
export async function longestStill(work: () => Promise<void>): Promise<number> {
  let [longest, last] = [0, performance.now()];
  const look = () => {
    const now = performance.now();
    [longest, last] = [Math.max(longest, now - last), now];
  };
  const timer = setInterval(look, 2);
  try {
    await work();
    await new Promise((resolve) => setTimeout(resolve, 50));
    look();
  } finally {
    clearInterval(timer);
  }
  return longest;
}

/** Opens duplicates while strangers attack, in rounds of each attack in turn. Needs root: strangers are another user's. */
export async function runFloods(options: FloodOptions): Promise<Round[]> {
  const { attacks, rounds, milliseconds, log } = options;
  const system = unixSystem();
  // Everybody can connect, as where the user of a process is not known.
  useUnixSystem({ ...system, processFiles: false });
  const strangers = Array.from({ length: options.strangers }, () => new Attacker(true));
  using pair = await connection();
  const s = pair.server.handle;
  try {
    const [source, target] = [new UnixProvider(), new UnixProvider()];
    // What waits for somebody who never comes.
    const { rendezvous } = decodeBlob(source.duplicateSocket(s, 1));
    const all: Round[] = [];
    for (let count = 0; count < rounds * attacks.length; count++) {
      const attack = attacks[count % attacks.length]!;
      const where = attack === "search" ? rendezvous.slice(0, rendezvous.lastIndexOf("/") + 1) : rendezvous;
      let claims = 0;
      let connections = 0;
      const began = performance.now();
      const still = await longestStill(async () => {
        const attacking = strangers.map((stranger) => stranger.tell(attack, where, milliseconds));
        await Promise.all(Array.from({ length: IN_FLIGHT }, async () => {
          while (performance.now() - began < milliseconds) {
            target.closeSocket(await target.socket(source.duplicateSocket(s, Deno.pid)));
            claims++;
          }
        }));
        for (const count of await Promise.all(attacking)) connections += count;
      });
      const a = (count: number) => Math.round(count / milliseconds * 1000);
      const round = { attack, claims: a(claims), connections: a(connections), still: Math.round(still) };
      log?.(JSON.stringify(round));
      all.push(round);
    }
    return all;
  } finally {
    useUnixSystem(system);
    for (const stranger of strangers) stranger[Symbol.dispose]();
  }
}

/**
 * Has processes connect whose ids are given to targets afterwards, again and again: each connection then claims the
 * target's duplicate with its secret. Needs root, to choose ids.
 *
 * @returns How often it was tried, and how many sockets they got: there must be none.
 */
export async function runCycling(milliseconds: number): Promise<{ rounds: number; stolen: number }> {
  using pair = await connection();
  const source = new UnixProvider();
  let [rounds, stolen] = [0, 0];
  for (const end = performance.now() + milliseconds; performance.now() < end;) {
    using attacker = new Attacker(false);
    // It keeps the address open, and an address at which connections were in vain is not used for long.
    const waiting = source.duplicateSocket(pair.server.handle, 1);
    const { rendezvous } = decodeBlob(waiting);
    // All in one turn: the connection waits to be accepted while its process ends, and the target gets its id.
    const processId = attacker.tellNow("connectByStub", rendezvous);
    if (processId < 0) continue;
    using target = startWithId(processId);
    if (target === undefined) continue;
    const offered = source.duplicateSocket(pair.server.handle, processId);
    attacker.tellNow("send", encodeClaim(decodeBlob(offered).claim));
    stolen += await attacker.tell("receive");
    rounds++;
    source.withdraw(offered);
    source.withdraw(waiting);
  }
  return { rounds, stolen };
}
