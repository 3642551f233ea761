/**
 * Keeps packages from reading the environment while they load: ws reads its switches, which throws without env
 * permission. `npm.ts` imports this module before the packages, and `restore_env.ts` after them.
 *
 * @module
 */
import process from "node:process";

/** The original property `process.env`. */
export const originalEnv: PropertyDescriptor = Object.getOwnPropertyDescriptor(process, "env")!;

// The switches keep ws from looking for native add-ons, which would need read permission.
const value = { WS_NO_BUFFER_UTIL: "1", WS_NO_UTF_8_VALIDATE: "1" };
Object.defineProperty(process, "env", { value, writable: true, enumerable: true, configurable: true });
