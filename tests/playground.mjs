// Looks into a page of examples/playground.sh.
//
//   node tests/playground.mjs losses PAGE STEPS          trains as the page does, without a browser: what
//                                                        examples/playground.c prints as a program
//   node tests/playground.mjs use PAGE SAVED OPENED      uses the page in a Chromium; saves the model as SAVED,
//                                                        opens OPENED; the last line is "N passed, N failed"
//   node tests/playground.mjs pictures PAGE FOLDER STEPS what it looks like, for people
import { existsSync, readFileSync, renameSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { open_page } from './browser.mjs';

const [what, file, ...words] = process.argv.slice(2);
const part = id => readFileSync(file, 'utf8').match(new RegExp('<script id="' + id + '"[^>]*>([^]*?)</script>'))[1];
const address = 'file://' + resolve(file);
const number = name => 'state.numbers.' + name;
const pause = ms => new Promise(go => setTimeout(go, ms));

async function losses(steps) {
    const { engine, unpacked } = new Function(part('engine') + '; return { engine, unpacked };')();
    const it = await engine(await unpacked(part('wasm')));
    it.learn(await unpacked(part('learnt')));
    it.begin();
    for (let i = 1; i <= steps; i++) {
        it.step();
        const n = it.numbers();
        if (i % 10 === 0) console.log(`step ${i}  mixture ${n.loss.toFixed(4)}  dense ${n.dense_loss.toFixed(4)}`);
    }
    const n = it.numbers();
    console.log((2 * n.tokens / (n.seconds + n.dense_seconds)).toFixed(0) + ' tokens/s');
}

let passed = 0, failed = 0;
function check(right, name) {
    if (right) passed++;
    else { failed++; console.log('FAILED: ' + name); }
}

// The longest task of the page itself, in time of its thread: what others do on this machine counts for nothing.
async function longest(page, during) {
    const events = [];
    page.listen('Tracing.dataCollected', m => events.push(...m.value));
    const done = new Promise(go => page.listen('Tracing.tracingComplete', go));
    await page.call('Tracing.start', { transferMode: 'ReportEvents',
        traceConfig: { includedCategories: ['toplevel', 'disabled-by-default-devtools.timeline', '__metadata'] } });
    await during();
    await page.call('Tracing.end');
    await done;
    const main = new Set(events.filter(e => e.name === 'thread_name' && e.args.name === 'CrRendererMain').map(e => e.pid + '/' + e.tid));
    const tasks = events.filter(e => /RunTask/.test(e.name) && main.has(e.pid + '/' + e.tid)).map(e => (e.tdur ?? e.dur) / 1000)
        .filter(ms => ms >= 0);            // what had begun before, or has not ended, has no length
    return { count: tasks.length, worst: Math.max(...tasks) };
}

async function use(saved, opened) {
    const folder = mkdtempSync(join(tmpdir(), 'glam_saved_'));
    const page = await open_page(address, { downloads: folder });
    const on = id => `!document.getElementById('${id}').disabled`;
    const turn = (name, value) => page.run(`{ const k = document.getElementById('knob_${name}'); k.value = '${value}'; k.onchange(); }`);
    const words_of = id => page.run(`document.getElementById('${id}').textContent`);
    try {
        await page.until(on('go'));
        check(/Ready/.test(await words_of('say')), 'it says that it is ready');

        // by keyboard: a step, start, pause
        await page.key('s');
        await page.until(number('step') + ' === 1');
        const worst = await longest(page, async () => {
            await page.key(' ');
            await page.until(number('step') + ' >= 60', 200);
        });
        check(worst.count > 20 && worst.worst < 100, `the page waits ${worst.worst} ms at most of ${worst.count} tasks`);
        await page.key(' ');
        await page.until('!running');
        check(await page.run(number('loss')) < 3, 'it learns');
        check(await page.run(number('dense_loss')) < 3, 'its twin learns');
        check(Math.abs(await page.run(`${number('active')} / ${number('dense_parameters')}`) - 1) < 0.02, 'both do the same work');
        check(await page.run(number('valid') + ' > 0'), 'text held back is measured');
        check(await page.run("document.querySelectorAll('#curve polyline').length") === 2, 'two lines of loss');
        check(await page.run("[0, 1].every(l => state.loads[l].slice(0, 8).reduce((a, b) => a + b) === 512)"), 'each byte has a first choice');
        check(await page.run("document.querySelectorAll('#loads svg').length") === 2, 'loads of both layers');

        // letters: the router's probabilities sum to 1, the weights too; keys choose
        check(await page.run(`{ let bad = 0;
            for (let i = 0; i < seen.L * seen.n; i++) {
                let p = 0, w = 0;
                for (let e = 0; e < seen.E; e++) p += seen.chance[i * seen.E + e];
                for (let k = 0; k < seen.K; k++) w += seen.weight[i * seen.K + k];
                bad += Math.abs(p - 1) > 1e-4 || Math.abs(w - 1) > 1e-4;
            }
            bad }`) === 0, 'probabilities and weights sum to 1');
        check(await page.run("seen.n === bytes(own).length && document.querySelectorAll('#text span').length === seen.n"), 'a place for each byte');
        await page.key('Escape');
        check(await page.run('expert') === -1, 'Escape: all experts');
        check(await page.run("[...document.querySelectorAll('#text span i')].every((e, t) => +e.textContent === seen.expert[t * seen.K])"), 'digits under the letters');
        await page.key('3');
        check(await page.run('expert') === 3, 'a digit: one expert');
        check(await page.run("new Set([...document.querySelectorAll('#text span')].map(e => Math.round(e.getBoundingClientRect().top))).size") ===
            (await page.run('own')).split('\n').length, 'lit letters stand in line with the others');
        check(await page.run(`[...document.querySelectorAll('#text span')].every((e, t) => {
            const k = [...seen.expert.slice(t * seen.K, (t + 1) * seen.K)].indexOf(3);
            return (k >= 0 && Math.round(100 * seen.weight[t * seen.K + k]) > 0) === (e.lastChild.textContent > 0);
        })`), 'only its letters are lit');
        await page.key('ArrowUp');
        check(await page.run('layer') === 1, 'arrow up: the next layer');
        await page.key('ArrowRight');
        await page.key('ArrowRight');
        check(await page.run('token') === 2 && /^Letter 2/.test(await words_of('token')), 'arrow right: letter after letter');
        await page.run("document.getElementById('own').value = 'a\\u00e9!'; document.getElementById('own').oninput()");
        await page.until('seen && seen.n === 4');
        check(await page.run("document.querySelectorAll('#text span').length") === 4, 'a letter of two bytes has two places');
        await page.key('w');
        await page.until("document.getElementById('first').textContent !== '(not yet)'", 30);
        check((await words_of('first')).length > 20 && (await words_of('second')).length > 20, 'both write');

        // a snapshot has the run back, to the bit
        await page.key('n');
        await page.until(on('undo'));
        const ahead = async () => {
            const from = await page.run(number('step'));
            for (let i = 1; i <= 4; i++) { await page.key('s'); await page.until(`${number('step')} === ${from + i}`); }
            return page.run(`JSON.stringify([${number('loss')}, ${number('dense_loss')}, ${number('step')}])`);
        };
        const once = await ahead();
        const end = JSON.parse(once)[2];
        await page.key('u');
        await page.until(`${number('step')} === ${end - 4}`);
        check(await page.run('curve[curve.length - 1][0]') === end - 4, 'the curve goes back with it');
        check(await ahead() === once, 'after undo the same losses, to the bit');

        // knobs that act from the next step on
        await page.key(' ');
        for (const [name, value, field] of [['capacity', 0.5, 'dropped'], ['top_k', 1, 'top_k'], ['top_k', 4, 'top_k'], ['balance', 1, 'balance']]) {
            const step = await page.run(number('step'));
            await turn(name, value);
            await page.until(`${number('step')} > ${step} + 2 && state.knobs.${name} === ${value}`);
            if (name === 'capacity') check(await page.run(number('dropped')) > 0.5, 'capacity 0.5 drops most');
            if (name === 'capacity')           // 512 tokens, 8 experts: 32 places each, which first choices take first
                check(await page.run(`state.loads.every(l => l.slice(0, 8).reduce((a, b) => a + b) === 512 &&
                    l.slice(8).every((kept, e) => kept === Math.min(l[e], 32)))`), 'first choices that found a place: ' + await page.run('JSON.stringify(state.loads)'));
            if (name === 'top_k') check(await page.run(number('top_k')) === value, 'experts per token: ' + value);
        }
        await turn('capacity', 0);
        await page.until(number('dropped') + ' === 0');
        await page.key(' ');
        await page.until('!running');

        // an expert that is switched off works on nothing, and comes back
        await page.key('2');
        await page.run("document.getElementById('flip').click()");
        await page.until('state.offs[layer][2] === 1');
        await page.key('s');
        await page.until('state.loads[layer] && state.loads[layer][2] === 0');
        check(await page.run('[...seen.expert.slice(layer * seen.n * seen.K, (layer + 1) * seen.n * seen.K)].every(e => e !== 2)'), 'an expert is off');
        await page.run("document.getElementById('flip').click()");
        await page.until('state.offs[layer][2] === 0');
        await turn('router', 1);
        await page.until('state.knobs.router === 1');
        check(await page.run(number('step')) > 0, 'a router of the same weights acts at once');
        await turn('router', 0);
        await page.until('state.knobs.router === 0');

        // knobs that begin anew, and the way back
        const before = await page.run(number('step'));
        await turn('experts', 16);
        await page.until(number('experts') + ' === 16');
        check(await page.run(number('step')) === 0, 'other experts: a new beginning');
        await page.key('s');
        await page.until(number('step') + ' === 1');
        check(await page.run('state.loads[0].length') === 32, 'loads of sixteen');
        await page.key('u');
        await page.until(`${number('experts')} === 8 && ${number('step')} === ${before}`);
        check(await page.run('curve.length > 0 && curve[curve.length - 1][0]') === before, 'undo: the old run with its curve');
        for (const kind of await page.run("[...document.getElementById('knob_router').options].map(o => o.value)")) {
            await turn('router', kind);
            await page.until(`state.knobs.router === ${kind}`);
            const step = await page.run(number('step'));
            await page.key('s');
            await page.until(`${number('step')} === ${step + 1}`);
            check(await page.run(number('loss') + ' > 1 && seen.n === 4'), 'a step with router ' + kind);
        }
        await turn('seed', 7);
        await page.until('state.knobs.seed === 7 && ' + number('step') + ' === 0');
        await page.run("document.getElementById('knob_seed').value = '-1'; document.getElementById('knob_seed').onchange()");
        check(/A seed is a number/.test(await words_of('say')), 'a seed that is none is refused');

        // files
        await page.run("document.getElementById('save').click()");
        const made = join(folder, 'playground.safetensors');
        for (let i = 0; i < 200 && !existsSync(made); i++) await pause(50);
        check(existsSync(made) && statSync(made).size > 100000, 'a saved model');
        if (existsSync(made)) renameSync(made, saved);
        await page.files('#file', [resolve(opened)]);
        await page.until(number('experts') + ' === 4 && ' + number('width') + ' === 32');
        await page.key('s');
        await page.until(number('step') + ' === 1');
        check(await page.run(number('loss')) < 4.5, 'an opened model has learnt before');
        await page.files('#file', [resolve(file)]);
        await page.until("document.getElementById('say').className === 'bad'");
        check(/load/.test(await words_of('say')) && await page.run(number('experts')) === 4, 'a file that is no model is refused, the model stays');
        await page.key('s');
        await page.until(number('step') + ' === 2');

        // both sizes, both themes, nothing wider than its window
        for (const theme of ['light', 'dark'])
            for (const [w, h] of [[1120, 900], [390, 844]]) {
                await page.theme(theme);
                await page.size(w, h, w < 500);
                await pause(200);
                check(await page.run('document.documentElement.scrollWidth <= document.documentElement.clientWidth'), `${w} px, ${theme}: nothing is cut off`);
                check(await page.run('document.documentElement.dataset.theme') === theme, theme);
            }
        check(page.errors.length === 0, 'the console complains: ' + page.errors.join('; '));
    } catch (e) {
        check(false, e.message + "; the page says: " + await words_of("say").catch(() => "nothing"));
    } finally {
        await page.close();
        rmSync(folder, { recursive: true, force: true });
    }
    console.log(`${passed} passed, ${failed} failed`);
    process.exitCode = failed ? 1 : 0;
}

async function pictures(folder, steps) {
    const page = await open_page(address, { width: 1120, height: 1500 });
    await page.call('Emulation.setScrollbarsHidden', { hidden: true });        // a picture is as wide as the page
    await page.until("!document.getElementById('go').disabled");
    await page.key(' ');
    await page.until(`${number('step')} >= ${steps}`, 600);
    await page.key('w');
    await page.key(' ');
    await page.until('!running');
    for (const theme of ['light', 'dark'])
        for (const [w, h] of [[1120, 1500], [390, 844]]) {
            await page.theme(theme);
            await page.size(w, h, w < 500);
            await pause(300);
            await page.run('draw_curve()');
            await page.shot(join(folder, `${theme}_${w}.png`), true);
        }
    await page.close();
}

await { losses, use, pictures }[what](...words);
