/* glam_page.h - how the page of a report looks, and what it does when it is touched.  A part of
   glam.c.

   No colour says anything alone: under each lit letter is its weight, under all of them the number
   of the expert, dropped ones have a cross.  All works by key, by pointer and by finger. */

#ifndef GLAM_PAGE_H
#define GLAM_PAGE_H

static const char *const page_style[] = {
    "*{box-sizing:border-box}\n",
    "body{margin:0 auto;max-width:1180px;padding:12px 16px "
    "60px;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,sans-serif}\n",
    "h1{font-size:22px;margin:6px 0}h2{font-size:18px;margin:34px 0 "
    "4px}h3{font-size:16px;margin:16px 0 4px}h4{font-size:14px;margin:14px 0 2px}\n",
    "p{margin:4px 0 8px;color:var(--soft);max-width:75ch}p b,.small "
    "b{color:var(--ink)}.small,small{font-size:13px}\n",
    "a{color:var(--l0)}nav{margin:8px 0}nav a{display:inline-block;padding:6px 10px 6px 0}\n",
    ".bar{display:flex;flex-wrap:wrap;gap:6px;align-items:center;margin:8px 0}\n",
    ".top{position:sticky;top:0;z-index:4;background:var(--ground);padding:6px 0;margin:0}\n",
    "button{font:inherit;color:inherit;background:var(--ground);border:1px solid "
    "var(--soft);border-radius:6px;padding:5px 10px;min-height:38px;min-width:38px;cursor:point"
    "er}\n",
    "button[aria-pressed=true],button[aria-checked=true]{background:var(--ink);color:var(--grou"
    "nd);font-weight:600}\n",
    ":focus-visible{outline:3px solid var(--l0);outline-offset:2px}\n",
    ".who{display:inline-block;min-width:24px;padding:0 "
    "5px;border-radius:4px;text-align:center;font:600 14px/22px "
    "ui-monospace,monospace;border:1px solid var(--soft);color:var(--ink)}\n",
    "button .who{color:#000;border-color:#0000}\n",
    ".read-and-side{display:grid;grid-template-columns:minmax(0,1fr) 320px;gap:16px}\n",
    "#letters{font:16px/1 ui-monospace,Menlo,Consolas,monospace;padding:8px;border:1px solid "
    "var(--rule);border-radius:8px}\n",
    ".word{display:inline-block;white-space:nowrap}.end{display:block}\n",
    ".t{display:inline-block;min-width:15px;height:38px;text-align:center;vertical-align:top;cu"
    "rsor:pointer}\n",
    ".t b{display:block;height:22px;line-height:22px;font-weight:400}\n",
    ".t i{display:block;font:10px/13px ui-monospace,monospace;color:var(--soft)}\n",
    ".t.lit b{font-weight:700}.t.lit i{color:var(--ink)}.t.ground b{color:#000}\n",
    ".t.gone i{color:var(--ink);font-weight:700}.t.now{outline:2px solid "
    "var(--ink);border-radius:2px}\n",
    "aside{position:sticky;top:58px;align-self:start;border:1px solid "
    "var(--rule);border-radius:8px;padding:8px 12px;background:var(--ground);font-size:14px}\n",
    "aside p{margin:2px 0}\n",
    ".p{display:grid;grid-template-columns:30px 1fr 150px;gap:6px;align-items:center;margin:2px"
    " 0;font:13px ui-monospace,monospace}\n",
    ".p div{height:12px;border-radius:2px;min-width:1px;background:var(--hot)}.p.no{color:var(-"
    "-soft)}.p.no div{opacity:.4}\n",
    "table{border-collapse:collapse;font:13px ui-monospace,monospace;margin:4px "
    "0}caption{text-align:left;color:var(--soft);font:13px system-ui,sans-serif;padding:2px "
    "0}\n",
    "td,th{padding:3px 8px;text-align:right;border-bottom:1px solid "
    "var(--rule);white-space:nowrap}th{font-weight:500;color:var(--soft)}th[scope=row]{text-ali"
    "gn:left}\n",
    ".scroll,.map{overflow-x:auto;max-width:100%}\n",
    "section{scroll-margin-top:60px}.t{scroll-margin:64px 0 150px}figure{margin:10px 0}.plot "
    "svg{width:100%;height:auto;touch-action:pan-y}\n",
    ".charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(340px,100%),1fr));g"
    "ap:10px 18px}\n",
    ".read{font:12px/1.4 ui-monospace,monospace;color:var(--soft);min-height:2.8em}\n",
    ".cursor{stroke:var(--ink);stroke-width:1}\n",
    ".takes p{margin:5px 0}.chip{display:inline-block;border:1px solid "
    "var(--rule);border-radius:4px;padding:0 6px;font:14px/24px "
    "ui-monospace,monospace;color:var(--ink)}.chip small{color:var(--soft)}\n",
    "#panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(260px,1fr));gap:10px}\n",
    ".panel{text-align:left;font:11px/14px ui-monospace,monospace;white-space:pre-wrap;overflow"
    "-wrap:anywhere;display:block;color:var(--soft)}\n",
    ".panel strong{display:block;font:600 13px system-ui,sans-serif;color:var(--ink);margin-bot"
    "tom:3px}\n",
    ".panel u{color:var(--ink);text-decoration:underline;border-radius:1px}\n",
    ".h1{background:#2f6db326}.h2{background:#2f6db34d}.h3{background:#2f6db373}.h4{background:"
    "#2f6db399}.h5{background:#2f6db3cc}\n",
    "summary{cursor:pointer;padding:10px 0;font-weight:600}\n",
    "@media(max-width:760px){.top{flex-wrap:nowrap;overflow-x:auto}.top "
    "button{flex:none}body{padding:8px 10px 150px}.read-and-side{grid-template-columns:minmax(0"
    ",1fr)}\n",
    "aside{position:fixed;left:0;right:0;bottom:0;top:auto;z-index:5;max-height:136px;overflow:"
    "auto;border-radius:10px 10px 0 0;border-color:var(--soft);display:none}\n",
    "aside.open{display:block}.p{grid-template-columns:30px 1fr 150px}td,th{padding:3px 6px}}\n",
    NULL
};

static const char *const page_script[] = {
    "'use strict';\n",
    "const D = JSON.parse(document.getElementById('data').textContent);\n",
    "const N = D.loss.length, E = D.experts, K = D.top, $ = id => "
    "document.getElementById(id);\n",
    "// Tol's light set, under black letters in both themes; the number tells, the colour "
    "helps\n",
    "const LIGHT = ['#7ad', '#e86', '#ed8', '#fab', '#9df', '#4b9', '#bc3', '#ddd'];\n",
    "const KEPT = 1, NO_SLOT = 2;\n",
    "let layer = Math.max(0, D.layers.findIndex(l => l.layer === D.start[0])), expert = "
    "D.start[1], now = -1;\n",
    "const make = (tag, name, text) => {\n",
    "  const e = document.createElement(tag);\n",
    "  if (name) e.className = name;\n",
    "  if (text !== undefined) e.textContent = text;\n",
    "  return e;\n",
    "};\n",
    "const ground = e => E <= 8 ? LIGHT[e] : '';\n",
    "const shade = w => 'rgba(47,109,179,' + (0.12 + 0.68 * w).toFixed(2) + ')';\n",
    "// Letters: a character of several bytes stands on its first.\n",
    "const shown = [], ends = [], parts = [];\n",
    "for (let i = 0; i < N && D.pieces; i++) {\n",
    "  const p = D.pieces[i];\n",
    "  shown.push(p === '' ? '\\u00b7' : p.replace(/ /g, '\\u00a0').replace(/\\n/g, "
    "'\\u21b5').replace(/\\t/g, '\\u21e5'));\n",
    "  ends.push(p.endsWith('\\n'));\n",
    "  parts.push(p.startsWith(' ') || p.endsWith('\\n'));\n",
    "}\n",
    "for (let i = 0; i < N && D.bytes; ) {\n",
    "  const b = D.bytes[i], wide = b < 0xc2 ? 1 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : 4;\n",
    "  let c = b === 10 ? '\\u21b5' : b === 9 ? '\\u21e5' : b < 32 || b === 127 ? '\\u00b7' : "
    "String.fromCharCode(b), used = 1;\n",
    "  if (b > 127) {\n",
    "    c = '\\ufffd';\n",
    "    try {\n",
    "      c = new TextDecoder('utf-8', {fatal: true}).decode(new Uint8Array(D.bytes.slice(i, "
    "i + wide)));\n",
    "      used = wide;\n",
    "    } catch (e) { used = 1; }\n",
    "  }\n",
    "  shown.push(c);\n",
    "  for (let k = 1; k < used; k++) shown.push('\\u2027');\n",
    "  for (let k = 0; k < used; k++) {\n",
    "    ends.push(b === 10);\n",
    "    parts.push(i > 0 && D.bytes[i - 1] === 32);\n",
    "  }\n",
    "  i += used;\n",
    "}\n",
    "const name = i => shown[i].replace(/[ \\u00a0]/g, '\\u2423');\n",
    "// Which of its choices a token gave to an expert; -1: none.\n",
    "const choice = (l, t, e) => {\n",
    "  for (let j = 0; j < K; j++) if (l.expert[t * K + j] === e) return j;\n",
    "  return -1;\n",
    "};\n",
    "const cells = [];\n",
    "let word = null;\n",
    "for (let i = 0; i < N; i++) {\n",
    "  if (!word || parts[i]) word = $('letters').appendChild(make('span', 'word'));\n",
    "  const cell = word.appendChild(make('span', 't'));\n",
    "  cell.dataset.i = i;\n",
    "  cell.appendChild(make('b', '', shown[i] === ' ' ? '\\u00a0' : shown[i]));\n",
    "  cell.appendChild(make('i'));\n",
    "  cells.push(cell);\n",
    "  if (ends[i]) $('letters').appendChild(make('span', 'end'));\n",
    "  if (ends[i] || word.childNodes.length > 15) word = null;\n",
    "}\n",
    "function drawLetters() {\n",
    "  const l = D.layers[layer];\n",
    "  for (let t = 0; t < N; t++) {\n",
    "    const j = expert >= 0 ? choice(l, t, expert) : l.expert[t * K] < 0 ? -1 : 0, at = t * "
    "K + j, letter = cells[t].firstChild, below = cells[t].lastChild;\n",
    "    const gone = j >= 0 && l.fate[at] === NO_SLOT;\n",
    "    letter.style.background = j < 0 || gone ? '' : expert < 0 ? ground(l.expert[at]) : "
    "shade(l.weight[at] / 1000);\n",
    "    below.textContent = j < 0 ? '' : gone ? '\\u00d7' : expert < 0 ? l.expert[at] : "
    "Math.round(l.weight[at] / 10);\n",
    "    cells[t].className = 't' + (gone ? ' gone' : j < 0 ? '' : expert < 0 ? (E <= 8 ? ' "
    "ground' : '') : ' lit') + (t === now ? ' now' : '');\n",
    "  }\n",
    "}\n",
    "const fate = (l, at) => l.fate[at] === NO_SLOT ? 'dropped: no slot left' : l.fate[at] !== "
    "KEPT ? 'left out'\n",
    "  : l.slots ? 'slot ' + (l.slot[at] + 1) + ' of ' + l.slots : '';\n",
    "function line(l, t, e) {\n",
    "  const j = choice(l, t, e), at = t * K + j, row = make('div', 'p' + (j < 0 ? ' no' : "
    "''));\n",
    "  const p = l.p ? l.p[t * E + e] / 1000 : j < 0 ? 0 : l.before[at] / 1000;\n",
    "  const who = row.appendChild(make('b', 'who', e));\n",
    "  if (E <= 8) { who.style.background = ground(e); who.style.color = '#000'; }\n",
    "  row.appendChild(make('div')).style.width = Math.max(1, 100 * p) + '%';\n",
    "  let text = l.p ? p.toFixed(3) : '';\n",
    "  if (j >= 0) text += ' \\u2192 ' + (l.weight[at] / 1000).toFixed(3) + (l.before[at] !== "
    "l.weight[at] ? ' (was ' + (l.before[at] / 1000).toFixed(3) + ')' : '');\n",
    "  row.appendChild(make('span', '', text));\n",
    "  row.title = j < 0 ? 'expert ' + e : 'expert ' + e + ', choice ' + (j + 1) + ' ' + "
    "fate(l, at);\n",
    "  return row;\n",
    "}\n",
    "function drawSide() {\n",
    "  const side = $('side'), l = D.layers[layer];\n",
    "  side.textContent = '';\n",
    "  side.className = now < 0 ? '' : 'open';\n",
    "  if (now < 0) {\n",
    "    side.appendChild(make('p', '', 'Point at a letter, tap it, or press \\u2192.'));\n",
    "    return;\n",
    "  }\n",
    "  const head = side.appendChild(make('p'));\n",
    "  head.appendChild(make('b', '', name(now)));\n",
    "  head.appendChild(make('span', '', ' token ' + now + ', layer ' + l.layer + (D.loss[now] "
    "=== null ? '; first of its window'\n",
    "    : '; the model gave it ' + (100 * Math.exp(-D.loss[now])).toFixed(1) + ' %')));\n",
    "  const fates = [];\n",
    "  for (let j = 0; j < K; j++) {\n",
    "    const f = fate(l, now * K + j);\n",
    "    if (f && l.expert[now * K + j] >= 0) fates.push('expert ' + l.expert[now * K + j] + ' "
    "' + f);\n",
    "  }\n",
    "  if (fates.length) side.appendChild(make('p', '', fates.join('; ')));\n",
    "  const order = [];\n",
    "  for (let j = 0; j < K; j++) if (l.expert[now * K + j] >= 0) order.push(l.expert[now * K "
    "+ j]);\n",
    "  for (let e = 0; l.p && e < E; e++) if (!order.includes(e)) order.push(e);\n",
    "  for (const e of order) side.appendChild(line(l, now, e));\n",
    "  side.appendChild(make('p', 'small', (l.p ? 'probability' : '') + ' \\u2192 weight in "
    "the sum'));\n",
    "  const table = side.appendChild(make('table'));\n",
    "  for (const m of D.layers) {\n",
    "    const row = table.appendChild(make('tr'));\n",
    "    row.appendChild(make('th', '', 'layer ' + m.layer)).scope = 'row';\n",
    "    for (let j = 0; j < Math.min(K, 3); j++) row.appendChild(make('td', '', m.expert[now "
    "* K + j] < 0 ? '-' : m.expert[now * K + j] + '  ' + (m.weight[now * K + j] / "
    "1000).toFixed(2)));\n",
    "  }\n",
    "}\n",
    "function drawPanels() {\n",
    "  const l = D.layers[layer], most = Math.min(N, 420);\n",
    "  $('panels').textContent = '';\n",
    "  if (!$('small').open) return;\n",
    "  for (const e of l.order.slice(0, 16)) {\n",
    "    const panel = $('panels').appendChild(make('button', 'panel'));\n",
    "    panel.dataset.e = e;\n",
    "    panel.appendChild(make('strong', '', 'expert ' + e + ', ' + l.load[e].toFixed(2) + ' "
    "of an even share'));\n",
    "    for (let t = 0; t < most; ) {\n",
    "      const level = i => { const j = choice(l, i, e); return j < 0 || l.fate[i * K + j] "
    "!== KEPT ? 0 : Math.max(1, Math.ceil(l.weight[i * K + j] / 200)); };\n",
    "      const height = level(t);\n",
    "      let run = '';\n",
    "      for (; t < most && level(t) === height; t++) run += D.pieces ? D.pieces[t] : "
    "ends[t] ? '\\n' : shown[t];\n",
    "      panel.appendChild(height ? make('u', 'h' + Math.min(5, height), run) : "
    "document.createTextNode(run));\n",
    "    }\n",
    "  }\n",
    "}\n",
    "function drawButtons() {\n",
    "  const l = D.layers[layer], bar = $('experts');\n",
    "  [...$('layers').children].forEach((b, i) => { b.setAttribute('aria-checked', i === "
    "layer); b.tabIndex = i === layer ? 0 : -1; });\n",
    "  bar.textContent = '';\n",
    "  const add = (e, text) => {\n",
    "    const b = bar.appendChild(make('button'));\n",
    "    b.dataset.e = e;\n",
    "    b.setAttribute('aria-pressed', e === expert);\n",
    "    if (e >= 0) { const who = b.appendChild(make('b', 'who', e)); who.style.background = "
    "ground(e) || '#ddd'; }\n",
    "    b.appendChild(document.createTextNode(text));\n",
    "  };\n",
    "  for (const e of l.order) add(e, ' ' + l.load[e].toFixed(2) + '\\u00d7');\n",
    "  add(-1, 'all');\n",
    "}\n",
    "function draw() {\n",
    "  drawButtons();\n",
    "  drawLetters();\n",
    "  drawSide();\n",
    "  drawPanels();\n",
    "  for (const part of document.querySelectorAll('[data-layer]')) part.hidden = "
    "Number(part.dataset.layer) !== D.layers[layer].layer;\n",
    "}\n",
    "function light(e) { expert = e; draw(); }\n",
    "function turn(to) { layer = (to + D.layers.length) % D.layers.length; draw(); }\n",
    "function go(t) {\n",
    "  if (t < 0 || t >= N) return;\n",
    "  if (now >= 0) cells[now].classList.remove('now');\n",
    "  now = t;\n",
    "  cells[now].classList.add('now');\n",
    "  drawSide();\n",
    "}\n",
    "D.layers.forEach((l, i) => {\n",
    "  const b = $('layers').appendChild(make('button', '', 'layer ' + l.layer));\n",
    "  b.setAttribute('role', 'radio');\n",
    "  b.onclick = () => turn(i);\n",
    "});\n",
    "$('layers').onkeydown = e => {\n",
    "  const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[e.key];\n",
    "  if (!step) return;\n",
    "  e.preventDefault();\n",
    "  turn(layer + step);\n",
    "  $('layers').children[layer].focus();\n",
    "};\n",
    "$('experts').onclick = e => {\n",
    "  const b = e.target.closest('button');\n",
    "  if (!b) return;\n",
    "  light(Number(b.dataset.e));\n",
    "  $('experts').querySelector('[data-e=\"' + expert + '\"]').focus();\n",
    "};\n",
    "$('panels').onclick = e => { const b = e.target.closest('button'); if (b) { "
    "light(Number(b.dataset.e)); $('text').scrollIntoView(); } };\n",
    "$('small').ontoggle = drawPanels;\n",
    "const under = e => { const c = e.target.closest('.t'); return c ? Number(c.dataset.i) : "
    "-1; };\n",
    "$('letters').onpointermove = e => { if (e.pointerType === 'mouse') go(under(e)); };\n",
    "$('letters').onclick = e => go(under(e));\n",
    "let typed = '', typedAt = 0;\n",
    "$('letters').onkeydown = e => {\n",
    "  const step = {ArrowRight: 1, ArrowLeft: -1}[e.key], up = {ArrowUp: -1, ArrowDown: "
    "1}[e.key];\n",
    "  if (e.ctrlKey || e.altKey || e.metaKey) return;\n",
    "  if (step) { go(now < 0 ? 0 : now + step); cells[now].scrollIntoView({block: "
    "'nearest'}); }\n",
    "  else if (up) turn(layer + up);\n",
    "  else if (e.key === 'Home') go(0);\n",
    "  else if (e.key === 'End') go(N - 1);\n",
    "  else if (e.key === 'Escape') { if (expert < 0 && now >= 0) { "
    "cells[now].classList.remove('now'); now = -1; drawSide(); } else light(-1); }\n",
    "  else if (/^[0-9]$/.test(e.key)) {                 // two digits soon after each other: "
    "1, 12\n",
    "    typed = Date.now() - typedAt < 900 && E > 10 ? typed + e.key : e.key;\n",
    "    typedAt = Date.now();\n",
    "    if (Number(typed) >= E) typed = e.key;\n",
    "    if (Number(typed) < E) light(Number(typed));\n",
    "  } else return;\n",
    "  e.preventDefault();\n",
    "};\n",
    "// Charts: the values at a step, by pointer, finger or key.\n",
    "for (const plot of document.querySelectorAll('.plot')) {\n",
    "  const svg = plot.querySelector('svg'), read = plot.querySelector('.read');\n",
    "  const [wide, left, right, top, bottom] = plot.dataset.box.split(' ').map(Number);\n",
    "  const lines = [...svg.querySelectorAll('g[data-x]')].map(g => ({name: g.dataset.n, x: "
    "g.dataset.x.split(' '), y: g.dataset.y.split(' '),\n",
    "    at: g.querySelector('polyline').points}));\n",
    "  const all = [...new Set(lines.flatMap(l => l.x.map(Number)))].sort((a, b) => a - b);\n",
    "  const cursor = document.createElementNS('http://www.w3.org/2000/svg', 'line');\n",
    "  const first = all[0], last = all[all.length - 1];\n",
    "  cursor.setAttribute('class', 'cursor');\n",
    "  for (const [k, v] of [['y1', top], ['y2', bottom]]) cursor.setAttribute(k, v);\n",
    "  let at = -1;\n",
    "  const show = i => {\n",
    "    at = Math.max(0, Math.min(all.length - 1, i));\n",
    "    const x = left + (right - left) * (last > first ? (all[at] - first) / (last - first) "
    ": 0), values = [];\n",
    "    for (const k of ['x1', 'x2']) cursor.setAttribute(k, x);\n",
    "    svg.appendChild(cursor);\n",
    "    for (const l of lines) {\n",
    "      let best = -1;\n",
    "      l.x.forEach((v, k) => { if (Number(v) <= all[at]) best = k; });\n",
    "      if (best >= 0 && l.y[best] !== '-') values.push([l.name, l.y[best]]);\n",
    "    }\n",
    "    if (values.length > 8) values.sort((a, b) => b[1] - a[1]);\n",
    "    read.textContent = 'step ' + all[at] + ':  ' + values.slice(0, 8).map(v => v[0] + ' ' "
    "+ v[1]).join('  ') + (values.length > 8 ? ' ...' : '');\n",
    "  };\n",
    "  const point = e => {\n",
    "    const box = svg.getBoundingClientRect(), x = (e.clientX - box.left) * wide / "
    "box.width;\n",
    "    const want = first + (last - first) * (x - left) / (right - left);\n",
    "    let best = 0;\n",
    "    all.forEach((v, i) => { if (Math.abs(v - want) < Math.abs(all[best] - want)) best = "
    "i; });\n",
    "    show(best);\n",
    "  };\n",
    "  svg.onpointermove = point;\n",
    "  svg.onpointerdown = point;\n",
    "  plot.onkeydown = e => {\n",
    "    const step = {ArrowRight: 1, ArrowLeft: -1}[e.key];\n",
    "    if (!step) return;\n",
    "    e.preventDefault();\n",
    "    show(at < 0 ? (step > 0 ? 0 : all.length - 1) : at + step);\n",
    "  };\n",
    "}\n",
    "draw();\n",
    NULL
};

#endif
