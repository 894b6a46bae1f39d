// report_page.mjs - opens the page of `glam report` in Chromium and uses it: both sizes and themes, keys,
// pointer, finger, charts; nothing on the console, nothing from the network, nothing wider than the screen.
//
//     node tests/report_page.mjs CHROMIUM PAGE.html [FOLDER FOR PICTURES]      last line "N passed, N failed"
//
// It talks to the browser over a pipe, so that it needs node and nothing else.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync, statSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const [chromium, page, folder] = process.argv.slice(2);
const home = mkdtempSync(join(tmpdir(), 'glam-page.'));
const browser = spawn(chromium, ['--headless=new', '--no-sandbox', '--disable-gpu', '--remote-debugging-pipe',
    '--no-first-run', '--disable-dev-shm-usage', `--user-data-dir=${home}`, 'about:blank'],
    { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
let passed = 0, failed = 0, next = 1, session, left = Buffer.alloc(0);
const waiting = new Map(), complaints = [], requests = [];

function check(what, right, found) {
    if (right) passed++;
    else { failed++; console.log(`FAILED: ${what}${found === undefined ? '' : ': ' + JSON.stringify(found)}`); }
}

browser.stdio[4].on('data', bytes => {
    left = Buffer.concat([left, bytes]);
    for (let end; (end = left.indexOf(0)) >= 0; left = left.subarray(end + 1)) {
        const m = JSON.parse(left.subarray(0, end).toString());
        if (m.id) { waiting.get(m.id)(m); waiting.delete(m.id); }
        else if (m.method === 'Runtime.exceptionThrown') complaints.push(m.params.exceptionDetails.exception?.description);
        else if (m.method === 'Runtime.consoleAPICalled') complaints.push(m.params.args.map(a => a.value).join(' '));
        else if (m.method === 'Log.entryAdded') complaints.push(m.params.entry.text);
        else if (m.method === 'Network.requestWillBeSent') requests.push(m.params.request.url);
    }
});

function send(method, params = {}) {
    const id = next++;
    browser.stdio[3].write(JSON.stringify({ id, method, params, ...(session ? { sessionId: session } : {}) }) + '\0');
    return new Promise((done, no) => waiting.set(id, m => m.error ? no(new Error(method + ': ' + m.error.message)) : done(m.result)));
}

async function ask(expression) {
    const r = await send('Runtime.evaluate', { expression, returnByValue: true });
    if (r.exceptionDetails) throw new Error(expression + ': ' + r.exceptionDetails.exception.description);
    return r.result.value;
}

async function key(name, code) {
    for (const type of ['keyDown', 'keyUp'])
        await send('Input.dispatchKeyEvent', { type, key: name, code: name, windowsVirtualKeyCode: code,
            ...(type === 'keyDown' && name.length === 1 ? { text: name } : {}) });
}

async function place(selector) {
    return ask(`(() => { const e = document.querySelector(${JSON.stringify(selector)}); e.scrollIntoView({block: 'center'});
        const b = e.getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]; })()`);
}

async function hover(selector) {
    const [x, y] = await place(selector);
    await send('Input.dispatchMouseEvent', { type: 'mouseMoved', x, y });
}

async function tap(selector) {
    const [x, y] = await place(selector);
    await send('Input.dispatchTouchEvent', { type: 'touchStart', touchPoints: [{ x, y }] });
    await send('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] });
    await new Promise(done => setTimeout(done, 350));
}

async function show(width, height, theme, touch) {
    await send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: touch ? 2 : 1, mobile: touch });
    await send('Emulation.setTouchEmulationEnabled', { enabled: touch });
    await send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: theme }] });
    await send('Page.navigate', { url: 'file://' + resolve(page) });
    for (let i = 0; i < 200 && await ask('document.readyState') !== 'complete'; i++) await new Promise(done => setTimeout(done, 50));
}

async function picture(name, whole) {
    if (!folder) return;
    const { cssContentSize: size } = await send('Page.getLayoutMetrics');
    const parts = whole ? await ask("[...document.querySelectorAll('section')].map(s => { const b = s.getBoundingClientRect(); " +
        "return [s.id, b.top + scrollY, b.height]; })") : [['', 0, 0]];
    for (const [id, y, height] of parts) {
        const clip = { x: 0, y, width: size.width, height: Math.min(height, 2400), scale: 1 };
        const shot = await send('Page.captureScreenshot', whole ? { captureBeyondViewport: true, clip } : {});
        writeFileSync(join(folder, name + (id && '-' + id) + '.png'), Buffer.from(shot.data, 'base64'));
    }
}

// The least contrast of any text with what lies behind it (WCAG 2: 4.5 is wanted), of plain grounds.
const contrast = `(() => {
    const lum = c => { const v = c.map(x => (x /= 255) <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
        return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
    const parse = s => { const m = s.match(/[\\d.]+/g).map(Number); return [m.slice(0, 3), m.length > 3 ? m[3] : 1]; };
    let least = [99, ''];
    for (const e of document.querySelectorAll('body *')) {
        if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !e.getClientRects().length) continue;
        if (e.closest('script,style,svg')) continue;
        const layers = [];
        for (let up = e; up; up = up.parentElement) layers.push(parse(getComputedStyle(up).backgroundColor));
        let ground = [255, 255, 255];
        for (const [c, a] of layers.reverse()) ground = ground.map((g, i) => g * (1 - a) + c[i] * a);
        const a = lum(ground), b = lum(parse(getComputedStyle(e).color)[0]);
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < least[0]) least = [ratio, e.outerHTML.slice(0, 90)];
    }
    return least;
})()`;

async function look(width, height, theme, touch) {
    const name = `${width}-${theme}`;
    await show(width, height, theme, touch);
    await picture(name + '-top', false);
    check(`${name}: nothing is wider than the screen`, await ask('document.documentElement.scrollWidth') <= width,
        await ask('document.documentElement.scrollWidth'));
    check(`${name}: letters are lit`, await ask("document.querySelectorAll('.t.lit').length") > 0);
    check(`${name}: a lit letter has its weight`, await ask("/^\\d+$/.test(document.querySelector('.t.lit i').textContent)"));
    check(`${name}: no text without a letter or a number for its expert`,
        await ask("[...document.querySelectorAll('.t.lit,.t.ground,.t.gone')].every(t => t.lastChild.textContent !== '')"));
    const [ratio, where] = await ask(contrast);
    check(`${name}: every text stands out`, ratio >= 4.5, [ratio, where]);
    await picture(name, true);
}

async function use_keys() {
    await show(1280, 900, 'light', false);
    await ask("document.getElementById('letters').focus()");
    await key('ArrowRight', 39);
    await key('ArrowRight', 39);
    check('arrow keys choose a letter', await ask("document.querySelector('.t.now').dataset.i") === '1');
    check('and tell of it', /token 1, layer/.test(await ask("document.getElementById('side').textContent")));
    const sum = await ask("[...document.querySelectorAll('#side .p span')].map(s => s.textContent).filter(s => s.includes('\u2192'))" +
        ".map(s => Number(s.split('\u2192')[1].split('(')[0])).reduce((a, b) => a + b, 0)");
    check('the weights of a letter are between 0 and 1', (sum > 0 || await ask('D.layers[layer].expert[K] < 0')) && sum < 1.01, sum);
    const before = await ask("document.querySelector('[data-layer]:not([hidden])').dataset.layer");
    await key('ArrowDown', 40);
    const layers = await ask("document.getElementById('layers').children.length");
    check('arrow down goes to another layer', layers === 1 || before !== await ask("document.querySelector('[data-layer]:not([hidden])').dataset.layer"));
    await key('1', 49);
    check('a digit lights its expert', await ask("document.querySelector('#experts [aria-pressed=true]').dataset.e") === '1');
    await key('Escape', 27);
    check('Esc shows all', await ask("document.querySelector('#experts [aria-pressed=true]').dataset.e") === '-1');
    check('then each letter has the number of its first expert',
        await ask("[...document.querySelectorAll('.t')].every(t => { const e = D.layers[layer].expert[t.dataset.i * K]; " +
            "return t.lastChild.textContent === (e < 0 ? '' : String(e)) || t.classList.contains('gone'); })"));
    await picture('all-experts', false);
    await ask("document.querySelector('#layers [tabindex=\"0\"]').focus()");
    await key('ArrowRight', 39);
    check('arrow keys move along the layers, and the focus with them',
        await ask("document.activeElement === document.querySelector('#layers [aria-checked=true]')"));
    const plots = await ask("document.querySelectorAll('.plot').length");
    if (plots) {
        await ask("document.querySelector('.plot').focus()");
        await key('ArrowLeft', 37);
        check('a chart tells its last step by key', /^step \d+: +\S+ [\d.]+/.test(await ask("document.querySelector('.plot .read').textContent")));
    }
    return plots;
}

async function use_pointer(plots) {
    await show(1280, 900, 'dark', false);
    await hover('.t[data-i="5"]');
    check('a pointer chooses a letter', await ask("document.querySelector('.t.now').dataset.i") === '5');
    await picture('hover', false);
    if (plots) {
        await hover('.plot svg');
        check('a chart tells the step under a pointer', /^step \d+/.test(await ask("document.querySelector('.plot .read').textContent")));
    }
    await ask("document.querySelector('#small').open = true");
    await new Promise(done => setTimeout(done, 200));
    const panels = await ask("document.querySelectorAll('.panel').length");
    check('there is a panel for each expert', panels === await ask('Math.min(E, 16)'), panels);
    await ask("document.querySelectorAll('.panel')[1].click()");
    check('a panel lights its expert', await ask("expert === D.layers[layer].order[1]"));
    await ask("document.querySelector('#small').scrollIntoView()");
    await picture('panels', false);
}

async function use_finger(plots) {
    await show(390, 844, 'light', true);
    await tap('.t[data-i="7"]');
    check('a tap chooses a letter', await ask("document.querySelector('.t.now')?.dataset.i") === '7');
    const sheet = await ask("document.getElementById('side').getBoundingClientRect().height");
    check('the sheet of its numbers leaves room for the text', sheet > 40 && sheet <= 140, sheet);
    await picture('tap', false);
    await tap('#layers button:last-child');
    check('a tap chooses a layer', await ask("document.querySelector('#layers button:last-child').getAttribute('aria-checked')") === 'true');
    if (plots) {
        await tap('.plot svg');
        check('a tap on a chart tells a step', /^step \d+/.test(await ask("document.querySelector('.plot .read').textContent")));
    }
}

// The numbers of the token by hand, done again here from those that stand before them.
async function by_hand() {
    check('a token is done by hand, or the page says why not',
        await ask("[...document.querySelectorAll('#hand [data-layer]')].every(d => d.querySelectorAll('table:not(.all)').length === 5 || /this model has another/.test(d.textContent))"));
    const rows = await ask(`[...document.querySelectorAll('#hand [data-layer]')].map(d => Object.fromEntries([...d.querySelectorAll('tr')]
        .map(r => [r.querySelector('th').textContent, [...r.querySelectorAll('td')].map(c => Number(c.textContent))])))`);
    // logits and what the weights feel, from all entries, as far as their five digits go
    const sums = await ask(`[...document.querySelectorAll('#hand table.all')].map(t => {
        const d = t.closest('[data-layer]'), all = [...t.querySelectorAll('tr')].slice(1).map(r => [...r.cells].slice(1).map(c => Number(c.textContent)));
        const logit = [...d.querySelectorAll('tr')].find(r => r.cells[0].textContent === 'all: logit');
        const want = [...logit.cells].slice(1).map(c => Number(c.textContent)), E = want.length, k = all[0].length - E - 3;
        const felt = [...d.querySelectorAll('p')].find(p => p.textContent.startsWith('dL/dw'));
        const dw = [...felt.querySelectorAll('b')].map(b => Number(b.textContent));
        const sum = f => all.reduce((a, v) => a + f(v), 0);
        return Math.max(...want.map((w, e) => Math.abs(w - sum(v => v[1] * v[2 + e]))),
            ...dw.map((w, i) => Math.abs(w - sum(v => v[2 + E + i] * v[E + k + 2]))));
    })`);
    check('where a token is done by hand there is a table of all entries', sums.length > 0 || await ask("!/all: logit/.test(document.querySelector('#hand').textContent)"), sums.length);
    check('logits and dL/dw from all entries', sums.every(d => d < 2e-3), sums);
    for (const r of rows) {
        if (!r['all: logit']) continue;                // another router, which says so
        const l = r['all: logit'], p = r.p, most = Math.max(...l), e = l.map(v => Math.exp(v - most));
        const sum = e.reduce((a, b) => a + b, 0), near = (a, b, by) => Math.abs(a - b) <= by;
        check('softmax by hand', p.every((v, i) => near(v, e[i] / sum, 1e-4)), p);
        check('probabilities add up to 1', near(p.reduce((a, b) => a + b, 0), 1, 1e-4));
        const dot = p.reduce((a, v, i) => a + v * r.dp[i], 0);
        check('gradient of the logits by hand', r.dl.every((v, i) => near(v, p[i] * (r.dp[i] - dot), 2e-5)), r.dl);
        check('gradient of the router by hand', r.dW0e.every((v, i) => near(v, r.n[0] * r.dl[i], 2e-5)), r.dW0e);
        const experts = Object.keys(r).filter(k => k.startsWith('f of ') && k.includes(', w '));
        const y = r.x.map((v, m) => v + experts.reduce((a, k) => a + Number(k.split('w ')[1]) * r[k][m], 0));
        check('the sum by hand', r.y.every((v, m) => near(v, y[m], 1e-3)), [r.y, y]);
        const f = r['f of the window'], pull = p.reduce((a, v, i) => a + v * f[i], 0), down = r['dl, balance loss'];
        const scale = down.reduce((a, v, i) => Math.abs(p[i] * (f[i] - pull)) > Math.abs(a[1]) ? [v, p[i] * (f[i] - pull)] : a, [0, 0]);
        check('gradient of the balance loss by hand', down.every((v, i) => near(v, p[i] * (f[i] - pull) * scale[0] / scale[1], 2e-6)), down);
    }
}

try {
    const { targetInfos } = await send('Target.getTargets');
    ({ sessionId: session } = await send('Target.attachToTarget', { targetId: targetInfos.find(t => t.type === 'page').targetId, flatten: true }));
    for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await send(domain + '.enable');
    check('the page is below 1 MB', statSync(page).size < 1e6, statSync(page).size);
    check('the page names no other place', !/https?:(?!\/\/www\.w3\.org\/2000\/svg)/.test(readFileSync(page, 'utf8')));
    for (const theme of ['light', 'dark']) {
        await look(1280, 900, theme, false);
        await look(390, 844, theme, true);
    }
    const plots = await use_keys();
    await use_pointer(plots);
    await use_finger(plots);
    await by_hand();
    check('nothing is asked of the network', requests.every(u => u.startsWith('file:') || u === 'about:blank'), requests);
    check('nothing is on the console', complaints.length === 0, complaints);
} catch (e) {
    check('the page can be used', false, e.stack);
}
browser.on('exit', () => {
    rmSync(home, { recursive: true, force: true });
    console.log(`${passed} passed, ${failed} failed`);
    process.exit(failed ? 1 : 0);
});
session = undefined;
send('Browser.close');
