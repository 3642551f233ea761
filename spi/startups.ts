/**
 * Counting `WSPStartup` and `WSPCleanup`, which come in pairs.
 *
 * @module
 */
import { SPI_VERSION } from "./provider_functions.ts";
import { spiError } from "./spi_error.ts";

/** How often a provider has been started, and what it was started with. */
export class Startups<State> {
  #count = 0;
  #state: State | undefined;

  /** Counts a startup; the latest one's state is the one in use. */
  add(state: State): void {
    this.#count++;
    this.#state = state;
  }

  /**
   * Counts a cleanup.
   *
   * @returns The state, if this was the last; what belongs to it can go.
   * @throws {WinsockError} WSANOTINITIALISED if there were as many already.
   */
  remove(): State | undefined {
    const state = this.current("WSPCleanup", "stop a service provider");
    if (--this.#count > 0) return undefined;
    this.#state = undefined;
    return state;
  }

  /**
   * The state in use.
   *
   * @throws {WinsockError} WSANOTINITIALISED if the provider is not started.
   */
  current(functionName: string, operation: string): State {
    if (this.#count > 0) return this.#state!;
    throw spiError("WSANOTINITIALISED", functionName, operation, "WSPStartup was not called");
  }
}

/**
 * Refuses a version that is too old for 2.2, the only one there is.
 *
 * @throws {WinsockError} WSAVERNOTSUPPORTED
 */
export function checkVersion(wVersionRequested: number): void {
  const major = wVersionRequested & 0xff;
  const minor = wVersionRequested >>> 8;
  if (major > 2 || (major === 2 && minor >= 2)) return;
  const detail = `version ${major}.${minor} was asked for, this is ${SPI_VERSION & 0xff}.${SPI_VERSION >>> 8}`;
  throw spiError("WSAVERNOTSUPPORTED", "WSPStartup", "start a service provider", detail);
}
