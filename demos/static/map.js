// Draws a book's map with Plotly into the component's frame. `props.value` is the JSON of demos/map_figure.py, or empty.
const library = () => (window.nsPlotly ??= new Promise((resolve, reject) => {
  const script = document.createElement('script');
  script.src = new URL('map/plotly.js', document.baseURI).href;
  script.onload = () => resolve(window.Plotly);
  script.onerror = () => { window.nsPlotly = undefined; reject(new Error('map/plotly.js')); };
  document.head.append(script);
}));
const escaped = (text) => text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
// Plotly breaks no lines by itself, and Chinese has no spaces to break at.
const folded = (text, room) => escaped(text).replace(/[^\x00-\x7f]{1,26}/g, '$&\u200b')
  .match(new RegExp(`.{1,${room}}(?:\\s|\u200b|$)|.{1,${room}}`, 'gu')).map((line) => line.replace(/\u200b/g, '')).join('<br>');
const isDark = () => document.body.classList.contains('dark');
const ink = () => getComputedStyle(element).getPropertyValue('--ns-ink').trim() || '#2b2620';
const accent = () => getComputedStyle(element).getPropertyValue('--ns-accent').trim() || '#a8322a';
const START = {eye: {x: 0.82, y: 0.82, z: 0.5}, up: {x: 0, y: 0, z: 1}, center: {x: 0, y: 0, z: -0.05}};
const NAMED = 10;
const MODES = ['cluster', 'chapter', 'position'];
let mode = 'cluster', map = null, drawn = 0;

const hover = (row) => {
  const title = escaped(map.titles[map.chapter[row]] || '');
  const text = map.text.length ? `<br>${folded(map.text[row], 52)}` : '';
  return `<b>${title}</b>${text}<extra></extra>`;
};

const cloud = (rows, marker, more) => ({
  type: 'scatter3d', mode: 'markers',
  x: rows.map((row) => map.points[0][row]), y: rows.map((row) => map.points[1][row]),
  z: rows.map((row) => map.points[2][row]),
  customdata: rows, hovertemplate: rows.map(hover), marker: {line: {width: 0}, ...marker}, ...more,
});

const traces = () => {
  const theme = isDark() ? 'dark' : 'light', all = map.chapter.map((_, row) => row);
  const size = all.length > 20000 ? 1.8 : all.length > 500 ? 3 : 4.5;
  const found = [];
  if (mode === 'cluster') {
    for (const cluster of map.clusters) {
      const rows = all.filter((row) => map.cluster[row] === cluster.number);
      const isNoise = cluster.number < 0;
      found.push(cloud(rows, {size: isNoise ? size * 0.75 : size, color: cluster[theme], opacity: isNoise ? 0.5 : 0.9},
        {name: `${escaped(cluster.name)}  ${cluster.count}`}));
    }
  } else {
    const value = mode === 'chapter' ? map.chapter : all;
    const ends = [value[0], value[value.length - 1]], last = map.chapter.length - 1;
    const colorbar = {thickness: 8, len: 0.4, y: 0.3, x: 0.98, outlinewidth: 0, tickvals: ends,
      ticktext: [map.chapter[0], map.chapter[last]].map((number) => escaped(map.titles[number] || String(number)).slice(0, 14)),
      ticklabelposition: 'outside left', tickfont: {size: 12, color: ink()}};
    found.push(cloud(all, {size, color: value, colorscale: map.scales[theme], opacity: 0.9, colorbar}, {showlegend: false}));
  }
  // Plotly cannot keep texts apart, so only the largest clusters carry their names in the cloud.
  const named = map.clusters.filter((cluster) => cluster.label).slice(0, NAMED);
  found.push({
    type: 'scatter3d', mode: 'text', hoverinfo: 'skip', showlegend: false, textfont: {size: 14, color: ink()},
    x: named.map((c) => c.place[0]), y: named.map((c) => c.place[1]), z: named.map((c) => c.place[2]),
    text: named.map((c) => escaped(c.label)),
  });
  if (map.lit) {
    const {hits, place, question} = map.lit, lines = {x: [], y: [], z: []};
    for (const {row} of hits) {
      ['x', 'y', 'z'].forEach((axis, i) => lines[axis].push(place[i], map.points[i][row], null));
    }
    found.push({type: 'scatter3d', mode: 'lines', hoverinfo: 'skip', showlegend: false, ...lines,
      line: {color: accent(), width: 2}, opacity: 0.55});
    found.push(cloud(hits.map((hit) => hit.row), {size: size * 2, color: accent(), opacity: 1}, {
      mode: 'markers+text', text: hits.map((hit) => String(hit.rank)), textposition: 'top center',
      textfont: {size: 13, color: accent()}, name: escaped(map.words.map_question), showlegend: true,
    }));
    found.push({type: 'scatter3d', mode: 'markers', x: [place[0]], y: [place[1]], z: [place[2]], showlegend: false,
      hovertemplate: `${folded(question, 52)}<extra></extra>`, marker: {symbol: 'diamond', size: size * 1.6, color: accent()}});
  }
  return found;
};

const axis = {visible: false, showspikes: false, range: [-1.02, 1.02]};
const layout = () => {
  const isNarrow = element.clientWidth < 720;
  return {
    scene: {xaxis: axis, yaxis: axis, zaxis: axis, aspectmode: 'cube', camera: START, dragmode: 'orbit', uirevision: 'one'},
    uirevision: 'one', margin: {l: 0, r: 0, t: 0, b: 0}, paper_bgcolor: 'rgba(0,0,0,0)', font: {color: ink(), size: 13},
    legend: {itemsizing: 'constant', bgcolor: 'rgba(0,0,0,0)', x: isNarrow ? 0 : 0.985, y: isNarrow ? 0 : 0.98,
      xanchor: isNarrow ? 'left' : 'right', orientation: isNarrow ? 'h' : 'v', font: {size: 13}},
    hoverlabel: {align: 'left', bgcolor: isDark() ? '#211f1c' : '#fdfbf6', bordercolor: accent(), font: {color: ink(), size: 13}},
  };
};

const bar = () => {
  const buttons = MODES.map((name) => `<button type="button" data-mode="${name}" aria-pressed="${name === mode}">` +
    `${escaped(map.words['map_by_' + name])}</button>`).join('');
  element.querySelector('.ns-map-bar').innerHTML = buttons +
    `<button type="button" data-fit class="ns-map-fit">${escaped(map.words.map_fit)}</button>`;
};

const draw = async () => {
  const turn = ++drawn;
  map = props.value ? JSON.parse(props.value) : null;
  const frame = element.querySelector('.ns-map-frame'), plot = element.querySelector('.ns-map-plot');
  frame.hidden = !map;
  if (!map) {
    if (window.Plotly && plot.data) window.Plotly.purge(plot);
    return;
  }
  bar();
  const Plotly = await library();
  if (turn !== drawn) return;
  await Plotly.react(plot, traces(), layout(), {displayModeBar: false, responsive: true});
  if (!plot.nsHears) {
    plot.nsHears = true;
    plot.on('plotly_click', ({points}) => {
      const row = points[0].customdata;
      if (row === undefined || !map) return;
      const [start, end] = map.span[row];
      trigger('click', {chapter: map.chapter[row], start, end});
    });
  }
  element.dataset.drawn = String(map.chapter.length);
};

element.addEventListener('click', (event) => {
  const button = event.target.closest('.ns-map-bar button');
  if (!button || !map) return;
  if (button.dataset.mode) {
    mode = button.dataset.mode;
    draw();
  } else {
    window.Plotly.relayout(element.querySelector('.ns-map-plot'), {'scene.camera': START});
  }
});
new MutationObserver(() => { if (map) draw(); }).observe(document.body, {attributes: true, attributeFilter: ['class']});
watch('value', draw);
draw();
