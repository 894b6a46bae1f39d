// Drives a Chromium through a pipe: no port, no package.   const page = await open_page(url, {width, height, dark})
// page.run(expression) evaluates and awaits; page.key(name) presses; page.shot(file) takes a picture;
// page.errors are what the console complained of; await page.close().
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const browser = () => [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
    .find(p => p && existsSync(p));

const CODES = { ' ': [32, 'Space'], Escape: [27], ArrowLeft: [37], ArrowUp: [38], ArrowRight: [39], ArrowDown: [40], Tab: [9], Enter: [13] };

export async function open_page(url, { width = 1100, height = 900, dark = false, downloads = '' } = {}) {
    const folder = mkdtempSync(join(tmpdir(), 'glam_browser_'));
    const child = spawn(browser(), ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
        '--remote-debugging-pipe', '--user-data-dir=' + folder, 'about:blank'], { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
    const waiting = new Map(), errors = [], heard = [], listeners = [];
    let number = 0, rest = '', session;
    child.on('exit', () => { for (const w of waiting.values()) w.no(new Error('the browser ended')); });
    child.stdio[3].on('error', () => {});
    child.stdio[4].setEncoding('utf8').on('data', data => {
        const parts = (rest + data).split('\0');
        rest = parts.pop();
        for (const part of parts) {
            const m = JSON.parse(part);
            if (m.id) {
                const w = waiting.get(m.id);
                waiting.delete(m.id);
                if (m.error) w.no(new Error(w.method + ': ' + m.error.message)); else w.yes(m.result);
            } else if (m.method === 'Runtime.exceptionThrown') errors.push(m.params.exceptionDetails.exception?.description || m.params.exceptionDetails.text);
            else if (m.method === 'Runtime.consoleAPICalled' && m.params.type === 'error') errors.push(m.params.args.map(a => a.value).join(' '));
            else if (m.method === 'Log.entryAdded' && m.params.entry.level === 'error') errors.push(m.params.entry.text);
            else { heard.push(m); for (const [method, use] of listeners) if (method === m.method) use(m.params); }
        }
    });
    const call = (method, params = {}) => new Promise((yes, no) => {
        waiting.set(++number, { yes, no, method });
        child.stdio[3].write(JSON.stringify({ id: number, method, params, sessionId: session }) + '\0');
    });
    const { targetInfos } = await call('Target.getTargets');
    session = (await call('Target.attachToTarget', { targetId: targetInfos.find(t => t.type === 'page').targetId, flatten: true })).sessionId;
    await call('Page.enable');
    await call('Runtime.enable');
    await call('Log.enable');
    const page = {
        errors, call,
        listen: (method, use) => listeners.push([method, use]),
        size: (w, h, phone = false) => call('Emulation.setDeviceMetricsOverride', { width: w, height: h, deviceScaleFactor: 1, mobile: phone }),
        theme: name => call('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: name }] }),
        async run(expression) {
            const r = await call('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true });
            if (r.exceptionDetails) throw new Error(r.exceptionDetails.exception?.description || r.exceptionDetails.text);
            return r.result.value;
        },
        async until(expression, seconds = 60) {
            for (const end = Date.now() + 1000 * seconds; Date.now() < end;) {
                const value = await page.run(expression);
                if (value) return value;
                await new Promise(go => setTimeout(go, 50));
            }
            throw new Error('never true: ' + expression);
        },
        async key(name) {
            const [code, word] = CODES[name] || [name.toUpperCase().charCodeAt(0), /[0-9]/.test(name) ? 'Digit' + name : 'Key' + name.toUpperCase()];
            const key = { key: name, code: word || name, windowsVirtualKeyCode: code };
            await call('Input.dispatchKeyEvent', { type: name.length === 1 ? 'keyDown' : 'rawKeyDown', ...key, ...(name.length === 1 ? { text: name } : {}) });
            await call('Input.dispatchKeyEvent', { type: 'keyUp', ...key });
        },
        async move(x, y) { await call('Input.dispatchMouseEvent', { type: 'mouseMoved', x, y }); },
        async tap(x, y) {
            await call('Input.dispatchTouchEvent', { type: 'touchStart', touchPoints: [{ x, y }] });
            await call('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] });
        },
        async files(selector, list) {
            const { root } = await call('DOM.getDocument');
            const { nodeId } = await call('DOM.querySelector', { nodeId: root.nodeId, selector });
            await call('DOM.setFileInputFiles', { nodeId, files: list });
        },
        async shot(file, whole = false) {
            writeFileSync(file, Buffer.from((await call('Page.captureScreenshot', { captureBeyondViewport: whole })).data, 'base64'));
        },
        async close() {
            await Promise.race([call('Browser.close').catch(() => {}), new Promise(go => setTimeout(go, 3000))]);
            if (child.exitCode === null) child.kill('SIGKILL');
            for (let i = 0; i < 20; i++) try { rmSync(folder, { recursive: true, force: true }); break; } catch { await new Promise(go => setTimeout(go, 100)); }
        },
    };
    if (downloads) {
        const own = session;
        session = undefined;
        await call('Browser.setDownloadBehavior', { behavior: 'allow', downloadPath: downloads });
        session = own;
    }
    await page.size(width, height);
    await page.theme(dark ? 'dark' : 'light');
    const loaded = () => heard.some(m => m.method === 'Page.loadEventFired');
    await call('Page.navigate', { url });
    for (const end = Date.now() + 60000; !loaded() && Date.now() < end;) await new Promise(go => setTimeout(go, 30));
    return page;
}
