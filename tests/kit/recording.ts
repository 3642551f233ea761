/**
 * A recording provider: stands before each provider of a chain, writes down which structure it was given, byte for byte,
 * and knows what it should have been.
 */
import { equals } from "@std/bytes/equals";
import { entryKind, type ProviderCatalog, type ProviderFunctions, type Upcalls } from "@winsock/handoff/spi";
import { type WSAPROTOCOL_INFOW, WSAPROTOCOL_INFOW as Codec } from "@winsock/handoff/structs";

type Structure = Uint8Array<ArrayBuffer>;

/** The functions a structure travels through. */
export type TravelledFunction =
  | "WSPStartup"
  | "WSPSocket"
  | "WSPDuplicateSocket"
  | "WSPAddressToString"
  | "WSPStringToAddress";

/** One call of one provider. */
export interface RecordedCall {
  readonly entryId: number;
  readonly function: TravelledFunction;
  /** The structure as it was given, and the array itself. */
  readonly given: Structure;
  readonly array: Structure;
  /** The structure when the call returned. */
  returned: Structure;
  /** The call it was made from; none for the topmost provider's. */
  readonly from: RecordedCall | undefined;
}

/** Records the calls of the providers it is put before. */
export class Recorder {
  readonly calls: RecordedCall[] = [];
  #current: RecordedCall | undefined;

  /** The functions of an entry, recorded. */
  before(entryId: number, functions: ProviderFunctions): ProviderFunctions {
    const record = <T>(name: TravelledFunction, array: Structure, call: () => T): T => {
      const from = this.#current;
      const recorded = { entryId, function: name, given: array.slice(), array, returned: array, from };
      this.calls.push(recorded);
      this.#current = recorded;
      try {
        return call();
      } finally {
        recorded.returned = array.slice();
        this.#current = from;
      }
    };
    return {
      WSPStartup: (version, info: Structure, upcalls: Upcalls) => {
        return record("WSPStartup", info, () => functions.WSPStartup(version, info, upcalls));
      },
      WSPSocket: (af, type, protocol, info, g, flags) => {
        return record("WSPSocket", info, () => functions.WSPSocket(af, type, protocol, info, g, flags));
      },
      WSPDuplicateSocket: (s, processId, info) => {
        record("WSPDuplicateSocket", info, () => functions.WSPDuplicateSocket(s, processId, info));
      },
      WSPAddressToString: (address, info) => {
        return record("WSPAddressToString", info, () => functions.WSPAddressToString(address, info));
      },
      WSPStringToAddress: (text, family, info) => {
        return record("WSPStringToAddress", info, () => functions.WSPStringToAddress(text, family, info));
      },
      WSPCloseSocket: (s) => functions.WSPCloseSocket(s),
      WSPSetSockOpt: (s, level, name, value) => functions.WSPSetSockOpt(s, level, name, value),
      WSPGetSockOpt: (s, level, name, value) => functions.WSPGetSockOpt(s, level, name, value),
      WSPCleanup: () => functions.WSPCleanup(),
      withdraw: (info) => functions.withdraw?.(info),
    };
  }

  /** The calls of a function, from the top down, and forgets all calls. */
  take(name: TravelledFunction): RecordedCall[] {
    return this.calls.splice(0).filter((call) => call.function === name);
  }

  /** What was given to providers against the documented rule, in words. */
  violations(catalog: ProviderCatalog): string[] {
    const filled: Structure[] = [];
    return this.calls.flatMap((call) => {
      const entry = catalog.get(call.entryId);
      const where = `${call.function} of "${entry.szProtocol}"`;
      if (entryKind(entry) === "base") {
        if (call.function === "WSPDuplicateSocket") filled.push(call.returned);
        const own = [Codec.encode(entry), ...call.function === "WSPSocket" ? filled : []];
        return own.some((structure) => equals(structure, call.given)) ? [] : [
          `${where} was not given the base provider's own structure: ${differences(own[0]!, call.given)}`,
        ];
      }
      if (call.from === undefined) return [];
      const problems: string[] = [];
      if (!equals(call.from.given, call.given)) {
        problems.push(`${where} was given a structure that was changed: ${differences(call.from.given, call.given)}`);
      } else if (call.array !== call.from.array) {
        problems.push(`${where} was given a copy of the structure`);
      }
      return problems;
    });
  }
}

/** The members in which two structures differ. */
function differences(expected: Structure, actual: Structure): string {
  const left = Codec.decode(expected) as Record<keyof WSAPROTOCOL_INFOW, unknown>;
  const right = Codec.decode(actual) as typeof left;
  return Codec.fields.map(({ name }) => name as keyof WSAPROTOCOL_INFOW)
    .filter((name) => JSON.stringify(left[name]) !== JSON.stringify(right[name])).join(", ");
}

/** A provider whose caller changes the structures it passes on, as a layer must not. */
export function spoiled(functions: ProviderFunctions, change: (info: Structure) => Structure): ProviderFunctions {
  return {
    WSPStartup: (version, info, upcalls) => functions.WSPStartup(version, change(info), upcalls),
    WSPSocket: (af, type, protocol, info, g, flags) => {
      return functions.WSPSocket(af, type, protocol, change(info), g, flags);
    },
    WSPDuplicateSocket: (s, processId, info) => functions.WSPDuplicateSocket(s, processId, change(info)),
    WSPAddressToString: (address, info) => functions.WSPAddressToString(address, change(info)),
    WSPStringToAddress: (text, family, info) => functions.WSPStringToAddress(text, family, change(info)),
    WSPCloseSocket: (s) => functions.WSPCloseSocket(s),
    WSPSetSockOpt: (s, level, name, value) => functions.WSPSetSockOpt(s, level, name, value),
    WSPGetSockOpt: (s, level, name, value) => functions.WSPGetSockOpt(s, level, name, value),
    WSPCleanup: () => functions.WSPCleanup(),
    withdraw: (info) => functions.withdraw?.(info),
  };
}
