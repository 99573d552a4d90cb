-- From the parts of a document (filter.lua) to LaTeX that people can go on writing in: sections, equations,
-- figures and tables are counted by LaTeX, references and citations are commands. Where LaTeX would count
-- otherwise than the Markdown does, its counter is set.

local stringify = pandoc.utils.stringify
local twocolumn, capacity = false, 85

local function raw(text) return pandoc.RawBlock("latex", text) end
local function inline(text) return pandoc.RawInline("latex", text) end

local counters = { section = 0, subsection = 0, equation = 0, figure = 0, table = 0 }

-- The command that makes LaTeX count on to this number; empty where it does so by itself.
local function counted(name, number)
  local expected = counters[name] + 1
  counters[name] = number
  return expected == number and "" or string.format("\\setcounter{%s}{%d}\n", name, number - 1)
end

local ESCAPED = {
  ["\\"] = "\\textbackslash{}", ["{"] = "\\{", ["}"] = "\\}", ["$"] = "\\$", ["&"] = "\\&", ["#"] = "\\#",
  ["^"] = "\\textasciicircum{}", ["_"] = "\\_", ["%"] = "\\%", ["~"] = "\\textasciitilde{}",
  ["'"] = "\\textquotesingle{}", ["`"] = "\\textasciigrave{}", ["-"] = "-{}",
}

-- A hash in words, which may be broken as in code.
local function word(element)
  if not element.text:match(("%x"):rep(32)) then return nil end
  local text = element.text:gsub(("%x"):rep(8), "%0\1"):gsub("[\\{}$&#^_%%~'`-]", ESCAPED):gsub("\1", "\\allowbreak{}")
  return inline(text)
end

-- Code in a line: broken after separators and within long runs of hexadecimal digits, and nowhere else.
local function code(element)
  local text = element.text:gsub("%x+", function(run)
    return #run >= 32 and run:gsub(("%x"):rep(8), "%0\1") or run
  end):gsub("\1$", "")
  text = text:gsub("[%._/=,]", "%0\1"):gsub("[\\{}$&#^_%%~'`-]", ESCAPED):gsub("\1", "\\allowbreak{}")
  return inline("\\texttt{" .. text .. "}")
end

local function code_block(element)
  if pandoc.List({ "python", "bash", "json", "toml", "yaml" }):includes(element.classes[1]) then return nil end
  return raw("\\begin{Verbatim}[breaklines,breakanywhere,fontsize=\\footnotesize]\n"
    .. element.text .. "\n\\end{Verbatim}")
end

local function source(blocks)
  return (pandoc.write(pandoc.Pandoc(blocks), "latex", { wrap_text = "none" }):gsub("%s+$", ""))
end

-- Links inside the document: to what is counted, to works, to sections.

local LABELS = { eq = "eq:", fig = "fig:", tab = "tab:" }

local sections = {} -- Identifiers of headings: what else has an anchor, such as a proposition, LaTeX does not count.

local function reference(link)
  local kind, number = link.target:match("^#(%a+)%-(%d+)$")
  if kind == "eq" then return inline("\\eqref{eq:" .. number .. "}") end
  if LABELS[kind] then
    local word = stringify(link.content):gsub("%s*%d+$", "")
    return inline(word .. (word ~= "" and "~" or "") .. "\\ref{" .. LABELS[kind] .. number .. "}")
  end
  local id = link.target:match("^#(.+)$")
  if not id then return nil end
  local word = stringify(link.content):match("^(.-)%s*[%dA-Z][%d.]*$")
  if word and sections[id] and word:match("^%a+$") then return inline(word .. "~\\ref{sec:" .. id .. "}") end
  local made = pandoc.List { inline("\\hyperref[sec:" .. id .. "]{") }
  made:extend(link.content)
  made:insert(inline("}"))
  return made
end

local function cited(element)
  return element and element.t == "Link" and element.target:match("^#ref%-(.+)$")
end

-- "(" [A, 2017](#ref-a) ";" [B, 2018](#ref-b) ")" is one command; so is [A (2017)](#ref-a).
local function citations(inlines)
  local out = pandoc.List()
  local place = 1
  while place <= #inlines do
    local element = inlines[place]
    local key = cited(element)
    if not key then
      out:insert(element)
    elseif stringify(element.content):match("%)$") then
      out:insert(inline("\\citet{" .. key .. "}"))
    else
      local keys = pandoc.List { key }
      while inlines[place + 1] and inlines[place + 1].text == ";" and cited(inlines[place + 3]) do
        place = place + 3
        keys:insert(cited(inlines[place]))
      end
      local before, after = out[#out], inlines[place + 1]
      local enclosed = before and before.t == "Str" and before.text:match("%($")
        and after and after.t == "Str" and after.text:match("^%)")
      if enclosed then
        before.text, after.text = before.text:sub(1, -2), after.text:sub(2)
      end
      out:insert(inline((enclosed and "\\citep{" or "\\citealp{") .. table.concat(keys, ",") .. "}"))
    end
    place = place + 1
  end
  return out
end

-- Blocks.

local function equation(div)
  local number = div.attributes.number
  local forms = div.content:map(function(form) return form.content[1].text end)
  local length = #(forms[1]:gsub("\\%a+%s*{", "{"):gsub("\\%a+", "x"):gsub("[{}^_\\ ]", ""))
  local body = forms[1]
  if length > 0.5 * capacity then
    body = string.format("\\fitted{%s}\n  {%s}\n  {%s}", forms[1], forms[2] or forms[1], forms[3] or forms[1])
  end
  return raw(string.format("%s\\begin{equation}\\label{eq:%s}\n  %s\n\\end{equation}",
    counted("equation", tonumber(number)), number, body))
end

-- Pictures that pdflatex cannot read lie beside the text as PDF.
local function picture(image)
  local path = image.src:gsub("%.svg$", ".pdf"):gsub("%.gif$", ".pdf"):gsub("%.webp$", ".pdf")
  return inline("\\includegraphics[max width=\\linewidth,max totalheight=0.75\\textheight]{" .. path .. "}")
end

local function captioned(div, kind, word, body)
  local number = div.attributes.number
  return string.format("\\caption{%s}\\label{%s:%s}\n", source(div.content[1].content), word, number),
    counted(kind, tonumber(number))
end

local function places()
  return twocolumn and "tbp" or "htbp"
end

local function figure(div)
  local caption, count = captioned(div, "figure", "fig")
  local environment = twocolumn and div.content[2].t == "Para" and "figure*" or "figure"
  return raw(string.format("%s\\begin{%s}[%s]\n\\centering\n%s\n%s\\end{%s}",
    count, environment, places(), source { div.content[2] }, caption, environment))
end

local ALIGN = { AlignRight = "r", AlignCenter = "c" }
local RAGGED = { AlignRight = "\\raggedleft", AlignCenter = "\\centering" }

local function columns(grid)
  local specs = pandoc.List(grid.colspecs):map(function(spec)
    if not spec[2] then return ALIGN[spec[1]] or "l" end
    return string.format(">{%s\\arraybackslash}p{\\dimexpr %.4f\\linewidth-2\\tabcolsep\\relax}",
      RAGGED[spec[1]] or "\\raggedright", spec[2])
  end)
  return "@{}" .. table.concat(specs) .. "@{}"
end

local function rows(list, bold)
  local lines = pandoc.List(list):map(function(row)
    local texts = pandoc.List(row.cells):map(function(cell)
      local text = source(cell.contents)
      return bold and text ~= "" and "\\textbf{" .. text .. "}" or text
    end)
    return table.concat(texts, " & ") .. " \\\\"
  end)
  return table.concat(lines, "\n")
end

local function body_of(grid)
  local lines = pandoc.List(grid.bodies):map(function(body) return rows(body.body) end)
  return table.concat(lines, "\n")
end

local function size_of(grid)
  local size = tonumber(grid.attributes.size) or 1
  return string.format("\\fontsize{%.1f}{%.1f}\\selectfont", 9 * size, 11 * size)
end

-- A table over several pages, with its head on each.
local function longtable(grid, caption, count)
  local head = rows(grid.head.rows, true)
  local begin = "\\begin{longtable}{" .. columns(grid) .. "}\n" .. (caption ~= "" and caption .. "\\\\\n" or "")
  local parts = {
    count .. "{" .. size_of(grid),
    begin .. "\\toprule\n" .. head .. "\n\\midrule\n\\endfirsthead",
    "\\toprule\n" .. head .. "\n\\midrule\n\\endhead",
    "\\bottomrule\n\\endlastfoot\n" .. body_of(grid),
    "\\end{longtable}" .. (caption == "" and "\\addtocounter{table}{-1}" or "") .. "}",
  }
  if twocolumn then
    table.insert(parts, 1, "\\onecolumn")
    table.insert(parts, "\\twocolumn")
  end
  return raw(table.concat(parts, "\n"))
end

local function tabular(grid)
  return string.format("{%s\n\\begin{tabular}{%s}\n\\toprule\n%s\n\\midrule\n%s\n\\bottomrule\n\\end{tabular}}",
    size_of(grid), columns(grid), rows(grid.head.rows, true), body_of(grid))
end

local function tables(div)
  local caption, count = captioned(div, "table", "tab")
  local grid = div.content[2]
  if grid.t == "BulletList" then -- It goes on over pages, as no float does.
    local begin = "\\begin{center}\n\\expandafter\\def\\csname @captype\\endcsname{table}\n"
    return { raw(count .. begin .. caption .. "\\end{center}"), grid }
  end
  if grid.t ~= "Table" then
    return raw(count .. "\\begin{table}[tbp]\n" .. caption .. source { grid } .. "\n\\end{table}")
  end
  if grid.classes:includes("long") then return longtable(grid, caption, count) end
  local environment = twocolumn and grid.classes:includes("wide") and "table*" or "table"
  return raw(string.format("%s\\begin{%s}[%s]\n\\centering\n%s%s\n\\end{%s}",
    count, environment, places(), caption, tabular(grid), environment))
end

local function uncaptioned(grid)
  if grid.classes:includes("long") then return longtable(grid, "", "") end
  return raw("\\begin{center}\n" .. tabular(grid) .. "\n\\end{center}")
end

local LEVELS = { "section", "subsection", "subsubsection", "paragraph" }

local function numeral(text)
  return tonumber(text) or text:byte() - 64 -- Appendices have letters.
end

local appendix, listed = false, false

local function heading(header)
  local out = pandoc.List()
  local number, level = header.attributes.number, LEVELS[math.min(header.level, 4)]
  if header.classes:includes("appendix") and not appendix then
    appendix, counters.section = true, 0
    out:insert(raw(twocolumn and "\\onecolumn\n\\appendix" or "\\appendix"))
    twocolumn = false
  end
  local words = header.content:clone()
  if number then
    local drop = stringify(words):match("^Appendix ") and 4 or 2
    for _ = 1, drop do words:remove(1) end
    if level == "section" then counters.subsection = 0 end
    local count = counters[level] and counted(level, numeral(number:match("[^.]+$"))) or ""
    if count ~= "" then out:insert(raw(count)) end
  end
  local star = number and "" or "*"
  out:insert(raw(string.format("\\%s%s{%s}\\label{sec:%s}", level, star, source { pandoc.Plain(words) }, header.identifier)))
  return out
end

local function bibliography()
  if listed then return {} end
  listed = true
  return raw("\\bibliographystyle{plainnat}\n\\bibliography{references}")
end

local function anchored(div)
  return { raw("\\phantomsection\\label{sec:" .. div.identifier .. "}"), table.unpack(div.content) }
end

local PARTS = { figure = figure, table = tables, equation = equation, reference = bibliography, anchored = anchored }

local function blocks(block)
  if block.t == "Header" then
    if stringify(block.content) == "References" then return {} end
    return heading(block)
  end
  if block.t == "Table" then return uncaptioned(block) end
  local made = block.t == "Div" and PARTS[block.classes[1]]
  return made and made(block) or nil
end

local INLINES = { Inlines = citations }
local LEAVES = { Link = reference, Str = word, Code = code, CodeBlock = code_block, Image = picture }

function Pandoc(doc)
  twocolumn = doc.meta.twocolumn ~= nil
  capacity = tonumber(doc.meta.capacity and stringify(doc.meta.capacity)) or capacity
  doc:walk { Header = function(header) sections[header.identifier] = true end }
  doc = doc:walk(INLINES):walk(LEAVES)
  doc.blocks = doc.blocks:walk { traverse = "topdown", Block = blocks }
  return doc
end
