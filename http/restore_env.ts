/**
 * The end of what `hide_env.ts` began.
 *
 * @module
 */
import process from "node:process";
import { originalEnv } from "./hide_env.ts";

Object.defineProperty(process, "env", originalEnv);
