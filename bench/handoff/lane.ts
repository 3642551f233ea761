/**
 * What a lane of the benchmark is: a system, and who is compared on it.
 *
 * @module
 */

/** A lane, a contestant or a part of one cannot be had on this machine; the message says why, in one line. */
export class Unavailable extends Error {
  override readonly name = "Unavailable";
}

/** What this library is called among the contestants. */
export const OURS = "@winsock/handoff";

/** A source that hands connections to a child of its own. */
export interface Contestant {
  readonly name: string;
  /** Makes the source's command; the benchmark listens for it on a loopback port. */
  start(controlPort: number, options: StartOptions): Deno.Command;
}

/** How a source is started. */
export interface StartOptions {
  readonly stderr: "piped" | "inherit";
  /** More arguments for the source. */
  readonly args: readonly string[];
}

/** A system, and who is compared on it. */
export interface Lane {
  readonly name: string;
  /** What the reader must know of how it is run. */
  readonly note: string;
  readonly contestants: readonly Contestant[];
  /** Those that can hand off one connection again and again, in batches. */
  readonly channel: readonly Contestant[];
  /** Who is missing, and why. */
  readonly missing: readonly string[];
  /** What the client is started under. */
  readonly clientUnder: readonly string[];
}

/** Makes contestants; those that cannot be had are named with the reason. */
export async function gather(
  makers: Record<string, () => Contestant | Promise<Contestant>>,
): Promise<{ contestants: Contestant[]; missing: string[] }> {
  const contestants: Contestant[] = [];
  const missing: string[] = [];
  for (const [name, make] of Object.entries(makers)) {
    try {
      contestants.push(await make());
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      missing.push(`${name}: ${error.message}`);
    }
  }
  return { contestants, missing };
}
