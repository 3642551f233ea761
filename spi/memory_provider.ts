/**
 * A provider that shares sockets within one process, for tests.
 *
 * @module
 */
import {
  check,
  checkDuplication,
  checkOptions,
  HANDLE,
  limit,
  oneOf,
  PROCESS_ID,
  type Rule,
} from "../internal/options.ts";
import { systemCalls } from "../ffi/system.ts";
import { type WinsockErrorName, WSA_ERRORS } from "../structs/constants.ts";
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";
import { isEntry, type ServiceProvider, spiError, TCP_ENTRY } from "./service_provider.ts";

/**
 * The GUID of the in-memory provider.
 *
 * @experimental
 */
export const MEMORY_PROVIDER_ID = "3b8b6d52-5a0c-4a39-a7f4-4f4be2f6d0c1";

/**
 * A step of a {@linkcode MemoryProvider} that can be made to fail.
 *
 * @experimental
 */
export type MemoryProviderStep = "duplicateSocket" | "socket" | "withdraw" | "closeSocket";

/**
 * The options of a {@linkcode MemoryProvider}.
 *
 * @experimental
 */
export interface MemoryProviderOptions {
  /** The id of the process that the provider simulates. Defaults to `Deno.pid`. */
  processId?: number;
  /** The ids of the other processes that exist. Duplicates for any other process are refused. Defaults to `[]`. */
  processIds?: readonly number[];
}

const PROCESS_IDS: Rule = {
  what: "an array of process ids",
  accepts: (value) => Array.isArray(value) && value.every(PROCESS_ID.accepts),
};
const STEP = oneOf("duplicateSocket", "socket", "withdraw", "closeSocket");
const ERROR_NAME: Rule = {
  what: "the name of a Winsock error",
  accepts: (value) => typeof value === "string" && Object.hasOwn(WSA_ERRORS, value),
};

interface Waiting {
  readonly descriptor: bigint;
  readonly processId: number;
}

/** The state that the providers of one simulated system share. */
interface Shared {
  readonly processIds: ReadonlySet<number>;
  readonly waiting: Map<number, Waiting>;
  readonly failures: Map<MemoryProviderStep, { left: number; name: WinsockErrorName }>;
  lastNumber: number;
}

/**
 * Keeps duplicates in the memory of this process. No other process takes part, and the sharing mechanism of the system
 * is not used, but the descriptors are real descriptors of real sockets. The provider follows the whole contract of
 * {@linkcode ServiceProvider}, and can be made to fail at any step with any error.
 *
 * Needs ffi access to the system's socket library.
 *
 * @example Testing the error when the network is down
 * ```ts
 * import { MemoryProvider, useProvider } from "@winsock/handoff/spi";
 * import { duplicateSocket, listen, WinsockError } from "@winsock/handoff";
 * import { assertThrows } from "@std/assert";
 *
 * const provider = new MemoryProvider();
 * using _ = useProvider(provider);
 * using listener = listen({ hostname: "127.0.0.1", port: 0 });
 * provider.fail("duplicateSocket", "WSAENETDOWN");
 * assertThrows(() => duplicateSocket(listener, Deno.pid), WinsockError, "WSAENETDOWN (10050)");
 * ```
 *
 * @experimental
 */
export class MemoryProvider implements ServiceProvider {
  readonly protocolInfo: WSAPROTOCOL_INFOW = {
    ...TCP_ENTRY,
    ProviderId: MEMORY_PROVIDER_ID,
    szProtocol: "TCP/IP in memory",
  };
  /** The id of the process that the provider simulates. */
  readonly processId: number;
  #shared: Shared;

  /**
   * Makes a provider on a new simulated system.
   *
   * @param options The simulated processes.
   * @throws {TypeError} If one of them is not a number.
   * @throws {RangeError} If one of them is not an integer from 0 to 4 294 967 295.
   */
  constructor(options: MemoryProviderOptions = {}) {
    checkOptions(options, { processId: PROCESS_ID, processIds: PROCESS_IDS });
    const { processId = Deno.pid, processIds = [] } = options;
    this.processId = processId;
    this.#shared = {
      processIds: new Set([processId, ...processIds]),
      waiting: new Map(),
      failures: new Map(),
      lastNumber: 0,
    };
  }

  /** The number of duplicates that wait to be opened. */
  get waiting(): number {
    return this.#shared.waiting.size;
  }

  /**
   * Returns the same simulated system as another process sees it.
   *
   * @param processId The id of that process.
   * @returns The provider of that process.
   * @throws {RangeError} If the process does not exist.
   */
  as(processId: number): MemoryProvider {
    if (!this.#shared.processIds.has(processId)) {
      throw new RangeError(`Invalid \`processId\`: must be a process of this system, got ${processId}`);
    }
    const provider = new MemoryProvider({ processId });
    provider.#shared = this.#shared;
    return provider;
  }

  /**
   * Makes the next calls of a step fail before they have any effect.
   *
   * @param step The step that fails.
   * @param name The name of the error.
   * @param times The number of calls that fail. Defaults to `1`.
   */
  fail(step: MemoryProviderStep, name: WinsockErrorName, times: number = 1): void {
    check("step", step, STEP);
    check("name", name, ERROR_NAME);
    check("times", times, limit(0));
    this.#shared.failures.set(step, { left: times, name });
  }

  duplicateSocket(s: bigint, processId: number): Uint8Array<ArrayBuffer> {
    checkDuplication(s, processId);
    const operation = `duplicate socket ${s} for process ${processId}`;
    this.#failIfTold("duplicateSocket", "WSPDuplicateSocket", operation);
    systemCalls().assertSocket(s, operation);
    if (!this.#shared.processIds.has(processId)) {
      throw spiError("WSAEINVAL", "WSPDuplicateSocket", operation, "the process does not exist");
    }
    const number = ++this.#shared.lastNumber;
    this.#shared.waiting.set(number, { descriptor: systemCalls().duplicate(s), processId });
    return WSAPROTOCOL_INFOW.encode({ ...this.protocolInfo, dwProviderReserved: number });
  }

  // deno-lint-ignore require-await -- the contract is asynchronous, this provider does not wait
  async socket(info: Uint8Array): Promise<bigint> {
    return this.socketSync(info);
  }

  socketSync(info: Uint8Array): bigint {
    const { ProviderId, dwProviderReserved } = WSAPROTOCOL_INFOW.decode(info);
    this.#failIfTold("socket", "WSPSocket", "open a socket");
    if (isEntry(info, this.protocolInfo)) return systemCalls().open("0.0.0.0");
    const waiting = this.#shared.waiting.get(dwProviderReserved);
    if (ProviderId !== MEMORY_PROVIDER_ID || waiting?.processId !== this.processId) {
      const detail = "the blob is from another provider, for another process, or was opened before";
      throw spiError("WSAEINVAL", "WSPSocket", "open a shared socket", detail);
    }
    this.#shared.waiting.delete(dwProviderReserved);
    return waiting.descriptor;
  }

  withdraw(info: Uint8Array): void {
    const { dwProviderReserved } = WSAPROTOCOL_INFOW.decode(info);
    this.#failIfTold("withdraw", "WSPDuplicateSocket", "withdraw a duplicate");
    const waiting = this.#shared.waiting.get(dwProviderReserved);
    if (waiting === undefined) return;
    this.#shared.waiting.delete(dwProviderReserved);
    systemCalls().close(waiting.descriptor);
  }

  closeSocket(s: bigint): void {
    check("s", s, HANDLE);
    this.#failIfTold("closeSocket", "WSPCloseSocket", `close socket ${s}`);
    systemCalls().close(s);
  }

  #failIfTold(step: MemoryProviderStep, functionName: string, operation: string): void {
    const failure = this.#shared.failures.get(step);
    if (failure === undefined || failure.left === 0) return;
    failure.left--;
    throw spiError(failure.name, functionName, operation, "a test made this step fail");
  }
}
