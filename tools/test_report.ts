/** Reading the report that `deno test --junit-path` writes: how many tests passed, and which failed. */
import { parseXml, type XmlElement } from "npm:@rgrove/parse-xml@^5.0.0";

/** A test that failed, and why. */
export interface TestFailure {
  /** The path of the file that has the test, relative to the folder in which the tests ran. */
  readonly file: string;
  readonly test: string;
  /** The message of the error, which may have several lines. */
  readonly message: string;
}

/** The results of tests. Tests that were skipped are not counted. */
export interface TestResults {
  readonly passed: number;
  readonly failures: readonly TestFailure[];
}

/** Returns what a report says. */
export function parseTestReport(xml: string): TestResults {
  let passed = 0;
  const failures: TestFailure[] = [];
  for (const suite of elements(parseXml(xml).root, "testsuite")) {
    const file = suite.attributes["name"]!.replace(/^\.[/\\]/, "").replaceAll("\\", "/");
    for (const test of elements(suite, "testcase")) {
      const errors = [...elements(test, "failure"), ...elements(test, "error")];
      if (errors.length > 0) {
        // An attribute's line feeds become spaces; the text of the element keeps them.
        const message = errors.map((error) => error.text || error.attributes["message"]).join("\n");
        failures.push({ file, test: test.attributes["name"]!, message });
      } else if (elements(test, "skipped").length === 0) passed++;
    }
  }
  return { passed, failures };
}

function elements(parent: XmlElement | null, name: string): XmlElement[] {
  const children = (parent?.children ?? []) as XmlElement[];
  return children.filter((child) => child.type === "element" && child.name === name);
}
