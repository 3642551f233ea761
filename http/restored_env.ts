/**
 * The end of what `quiet_env.ts` began.
 *
 * @module
 */
import process from "node:process";
import { originalEnv } from "./quiet_env.ts";

Object.defineProperty(process, "env", originalEnv);
