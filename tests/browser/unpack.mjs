// Unpacks the browser that @sparticuz/chromium has in its package: nothing is downloaded. Run in the folder where that is
// installed. It prints the program's version, which shows that it starts here.
import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const folder = join(process.cwd(), "unpacked");
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder);
process.env.TMPDIR = folder; // the package unpacks itself there
process.env.AWS_EXECUTION_ENV = "AWS_Lambda_nodejs22.x"; // and then with the libraries that a bare system has not

const require = createRequire(join(process.cwd(), "package.json"));
const { default: chromium } = await import(pathToFileURL(require.resolve("@sparticuz/chromium")));
const program = await chromium.executablePath();
// The package's own configuration looks for fonts in the folders of another host. Without one a page's text ends its tab.
writeFileSync(
    join(folder, "fonts.conf"),
    `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir prefix="relative">fonts</dir>
</fontconfig>
`,
);
const env = { ...process.env, LD_LIBRARY_PATH: join(folder, "al2023", "lib") };
process.stdout.write(execFileSync(program, ["--version"], { env }));
