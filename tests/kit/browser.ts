/** A headless Chromium; `tools/test_setup.ts` sees to it that it is there. */
import type { Browser } from "npm:puppeteer-core@25.16.0";
import { kill } from "node:process";
import { findBrowser } from "../../tools/browsers.ts";
import { within } from "./process.ts";

const TIMEOUT_MS = 20_000;
// As root there is no sandbox, and a container's /dev/shm may be too small.
const FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"];

/** Whether there is a browser to test with. */
export function haveBrowser(): boolean {
  return findBrowser() !== undefined;
}

/** Starts a browser, which ends with this process at the latest. No wait for it is without end. */
export async function openBrowser() {
  // Only where it is used: the Windows lane has no browser, and need not load this.
  const { launch } = await import("npm:puppeteer-core@25.16.0");
  const browser: Browser = await launch({
    executablePath: `/usr/bin/${findBrowser()}`,
    headless: "shell",
    // Over a pipe, whose end is the browser's.
    pipe: true,
    args: FLAGS,
    timeout: TIMEOUT_MS,
    protocolTimeout: TIMEOUT_MS,
  });
  return {
    /** A page of its own, and what goes wrong in it. */
    async page() {
      const page = await browser.newPage();
      page.setDefaultTimeout(TIMEOUT_MS);
      const errors: string[] = [];
      page.on("pageerror", (error) => errors.push(String(error)));
      page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
      return { page, errors };
    },
    async [Symbol.asyncDispose]() {
      // The process is a shell script's, and the browser's are in its group.
      const group = -browser.process()!.pid!;
      await within(5_000, browser.close()).catch(() => kill(group, "SIGKILL"));
    },
  };
}
