/**
 * `doctor`: checks whether sockets can be handed off on this system, and reports the reasons if they cannot.
 *
 * @module
 */
import { errorMessage } from "../handoff/errors.ts";
import { baseHandle, findBrokenHandoffs, protocolCatalog, providerPath } from "../spi/system_catalog.ts";
import type { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";
import { openedLibraries } from "../ffi/library.ts";
import { systemCalls } from "../ffi/system.ts";
import { defaultProvider } from "../spi/default_provider.ts";
import { styled, type Terminal } from "./terminal.ts";

/** Finds the library of a provider by the provider's GUID. */
export type PathOf = (providerId: string) => string | undefined;

/**
 * Describes each layer that breaks hand-offs.
 *
 * @param entries The entries of a catalog.
 * @param pathOf Finds the library of a provider.
 * @returns One sentence for each entry whose sockets cannot be handed off.
 */
export function describeBrokenHandoffs(entries: readonly WSAPROTOCOL_INFOW[], pathOf: PathOf): string[] {
  return findBrokenHandoffs(entries).map(({ entry, layer }) => {
    const path = pathOf(layer.ProviderId);
    return `Sockets of ${nameOf(entry)} cannot be handed off: they go through ${nameOf(layer)}${
      path === undefined ? "" : ` in ${path}`
    }, whose descriptors are not handles of the system (no XP1_IFS_HANDLES)`;
  });
}

/** Returns the name and the id of an entry. */
function nameOf({ szProtocol, dwCatalogEntryId }: WSAPROTOCOL_INFOW): string {
  return `"${szProtocol.split("\0")[0]!}" (entry ${dwCatalogEntryId})`;
}

/** The parts of the system that `doctor` examines. A test can replace them. */
interface SystemProbe {
  /** Returns the protocol catalog. */
  entries(): WSAPROTOCOL_INFOW[];
  /** Finds the library of a provider. */
  readonly pathOf: PathOf;
  /** Duplicates a listening socket for this process and opens it. Throws the error if that fails. */
  share(): Promise<void>;
  /** Returns the descriptor of a new socket, and the handle of the base provider below it. */
  handles(): { s: bigint; base: bigint };
}

/** The result of one check. */
interface Finding {
  readonly check: string;
  readonly ok: boolean;
  /** What was found, one sentence each. */
  readonly findings: readonly string[];
}

/**
 * Examines the system.
 *
 * @param terminal The terminal to print to.
 * @param json Whether to print JSON.
 * @param patient The system to examine. Defaults to this system.
 * @returns The exit code: 0, or 1 if hand-offs cannot work.
 */
export async function doctor(terminal: Terminal, json: boolean, patient: SystemProbe = thisSystem()): Promise<number> {
  const results = [
    await examine("library", () => {
      systemCalls().close(systemCalls().open("0.0.0.0"));
      return { ok: true, findings: [`Opened ${openedLibraries().join(", ")}`] };
    }),
    await examine("sharing", async () => {
      await patient.share();
      return { ok: true, findings: ["A socket was duplicated for this process, and opened"] };
    }),
    await examine("layers", () => {
      const entries = patient.entries();
      const broken = describeBrokenHandoffs(entries, patient.pathOf);
      const healthy = `No layer breaks hand-offs of TCP sockets, in ${entries.length} catalog entries`;
      return { ok: broken.length === 0, findings: broken.length === 0 ? [healthy] : broken };
    }),
    await examine("handles", () => {
      const { s, base } = patient.handles();
      if (s === base) {
        return { ok: true, findings: [`Sockets of ${nameOf(defaultProvider().protocolInfo)} are handles`] };
      }
      const finding = `Socket ${s} is not the base provider's handle ${base}: a non-IFS layer is between them`;
      return { ok: false, findings: [finding] };
    }),
  ];
  if (json) terminal.print(JSON.stringify(results, undefined, 2));
  else for (const result of results) print(terminal, result);
  return results.every(({ ok }) => ok) ? 0 : 1;
}

async function examine(
  check: string,
  look: () => Omit<Finding, "check"> | Promise<Omit<Finding, "check">>,
): Promise<Finding> {
  try {
    return { check, ...await look() };
  } catch (error) {
    return { check, ok: false, findings: [errorMessage(error)] };
  }
}

function print(terminal: Terminal, { check, ok, findings }: Finding): void {
  const mark = styled(terminal, ok ? "flag" : "wrong", ok ? "ok   " : "WRONG");
  for (const finding of findings) terminal.print(`${mark}  ${styled(terminal, "name", check.padEnd(8))}  ${finding}`);
}

function thisSystem(): SystemProbe {
  return {
    entries: protocolCatalog,
    pathOf: providerPath,
    async share() {
      const calls = systemCalls();
      const s = calls.listen({ hostname: "127.0.0.1", port: 0 }, 1);
      try {
        const provider = defaultProvider();
        const copy = await provider.socket(provider.duplicateSocket(s, Deno.pid));
        provider.closeSocket(copy);
      } finally {
        calls.close(s);
      }
    },
    handles() {
      const s = systemCalls().open("0.0.0.0");
      try {
        return { s, base: baseHandle(s) };
      } finally {
        systemCalls().close(s);
      }
    },
  };
}
