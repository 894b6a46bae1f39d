// Runs a wasm32-wasi program under node:   node --no-warnings tests/wasi.mjs PROGRAM FOLDER [WORD...]
// It sees the current folder, and FOLDER as /tmp.
import { readFile } from 'node:fs/promises';
import { WASI } from 'node:wasi';

const [program, folder, ...words] = process.argv.slice(2);
const wasi = new WASI({
    version: 'preview1',
    args: [program, ...words],
    env: { TMPDIR: '/tmp', GLAM_TEST_DIR: '/tmp', ...Object.fromEntries(
        Object.entries(process.env).filter(([name]) => name.startsWith('GLAM_TEST_') && name !== 'GLAM_TEST_DIR')) },
    preopens: { '.': '.', '/tmp': folder },
});
const module = await WebAssembly.compile(await readFile(program));
const instance = await WebAssembly.instantiate(module, wasi.getImportObject());
process.exit(wasi.start(instance) ?? 0);
