/**
 * Restores the environment that `hide_env.ts` hid.
 *
 * @module
 */
import process from "node:process";
import { originalEnv } from "./hide_env.ts";

Object.defineProperty(process, "env", originalEnv);
