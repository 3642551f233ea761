/**
 * Addresses of this system.
 *
 * @module
 */
import { AddressCodec } from "../addresses.ts";
import { libc } from "./libc.ts";
import { unixSystem } from "./system.ts";

let addresses: AddressCodec | undefined;

/** The codec of this system's addresses; libc is opened at the first call. */
export function unixAddresses(): AddressCodec {
  return addresses ??= new AddressCodec(libc(), unixSystem().berkeley.AF_INET6, unixSystem());
}
